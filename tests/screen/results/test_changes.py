"""What has changed since a source was planned."""

from __future__ import annotations

import os
import shutil
from types import MappingProxyType

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from engines.sources import open_source
from engines.sources.base import Entry, Listing
from engines.sources.slide_rule import SlideRule
from screen.results.changes import Changes, changes_since
from screen.results.planning import plan_source


class Names:
    """A source of nothing but names, in the order given."""

    location = name = "names"
    carried = MappingProxyType({})

    def __init__(self, names):
        """Hold *names*, each with a size."""
        self._names = names

    def list(self):
        """Name them."""
        return Listing(Entry(name, "", size, 1) for name, size in self._names.items())


NAMES = st.dictionaries(st.sampled_from([f"{n:02}.png" for n in range(30)]), st.integers(1, 3))
NO_ROWS = ds.dataset(pa.table({"path": pa.array([], "str"), "content_hash": pa.array([], "str")}))


@given(before=NAMES.filter(bool), now=NAMES, turned=st.booleans())
def test_changes_are_those_of_a_simple_count(before, now, turned):
    """Against sets, in whatever order the source lists."""
    plan = plan_source(Names(before), SlideRule(), 4)
    listed = dict(reversed(now.items())) if turned else now

    found = changes_since(plan, Names(listed), NO_ROWS)

    assert found == Changes(
        new=len(now.keys() - before.keys()),
        changed=sum(before[name] != now[name] for name in before.keys() & now.keys()),
        gone=len(before.keys() - now.keys()),
    )


@pytest.fixture
def screened(cells):
    """A folder, its plan, and what its rows say of contents."""
    plan = plan_source(open_source(cells), SlideRule(), 4)
    paths = [entry.path for entry in plan.entries()]
    hashes = [xxhash.xxh3_128_hexdigest((cells / path).read_bytes()) for path in paths]
    return cells, plan, ds.dataset(pa.table({"path": paths, "content_hash": hashes}))


def test_a_source_left_alone_has_not_changed(screened):
    """And there is nothing to say."""
    folder, plan, rows = screened

    assert not changes_since(plan, open_source(folder), rows)


def test_another_time_alone_is_no_change(screened, tmp_path):
    """A copy without its times holds the same cells."""
    folder, plan, rows = screened
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)

    assert not changes_since(plan, open_source(copy), rows)


def test_new_changed_and_gone_cells_are_counted(screened):
    """Changed: another size, or the same size and other bytes."""
    folder, plan, rows = screened
    first, second, third, *_ = sorted((folder / "second").iterdir())
    shutil.copy(first, folder / "new.png")
    first.unlink()
    second.write_bytes(second.read_bytes() + b"longer")
    third.write_bytes(bytes(third.stat().st_size))
    os.utime(third, ns=(1, 1))

    found = changes_since(plan, open_source(folder), rows)

    assert found == Changes(new=1, changed=2, gone=1)
    assert str(found) == "1 new, 2 changed, 1 gone"


def test_a_source_that_cannot_be_listed_is_said_to_be_so(screened):
    """The results stand; only what is new is not known."""
    folder, plan, rows = screened
    source = open_source(folder)
    shutil.rmtree(folder)

    found = changes_since(plan, source, rows)

    assert found
    assert "cannot list the folder" in str(found)
