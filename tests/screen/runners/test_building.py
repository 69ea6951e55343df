"""An engine that is being built, as events."""

from __future__ import annotations

import threading

import pytest

from engines.errors import EngineBuildError
from screen.runners.building import building_events, without_events
from screen.runners.events import Building


def test_progress_becomes_events():
    """In order, and what was built is returned."""

    def build(progress):
        progress(0.0, "parsing")
        progress(0.5, "timing")
        return "engine"

    def caller():
        return (yield from building_events(build))

    events = caller()

    assert [next(events), next(events)] == [Building(0.0, "parsing"), Building(0.5, "timing")]
    assert without_events(events) == "engine"


def test_what_a_build_raises_is_raised():
    """As if it had not been in a thread."""

    def build(_):
        raise EngineBuildError("no plan")

    with pytest.raises(EngineBuildError, match="no plan"):
        without_events(building_events(build))


@pytest.mark.parametrize("error", [GeneratorExit, KeyboardInterrupt])
def test_whoever_leaves_stops_the_build(error):
    """At its next step; and its thread has ended before anything else does."""
    asked, steps = threading.Event(), []

    def build(progress):
        progress(0.1, "first")
        assert asked.wait(10)
        while True:  # until it is stopped
            progress(0.2, "next")
            steps.append(1)

    events = building_events(build)
    next(events)
    asked.set()
    with pytest.raises(error):
        events.throw(error)

    assert not [each for each in threading.enumerate() if each.name.startswith("build")]
