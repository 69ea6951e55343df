"""Which cells are shown, where there is no room for all."""

from __future__ import annotations

from screen.report.content.galleries import choose_galleries
from screen.report.content.scan import GALLERIES


class Ranked:
    """TopCells that are what they are said to be."""

    def __init__(self, rows):
        """Hold rows by slide."""
        self.rows = rows

    def ranked(self):
        """Return them."""
        return self.rows


def chosen(rows, priority, leads=None, **more):
    """Choose among rows by slide of the galleries that are named."""
    top_cells = {name: Ranked(rows.get(name, {})) for name in GALLERIES}
    return choose_galleries(top_cells, priority, leads or {}, more)


def test_places_go_to_every_slide_first_and_then_to_the_urgent(monkeypatch):
    """Each slide's best cell is shown before any slide's second; then the first slides' rest."""
    monkeypatch.setattr("screen.report.content.galleries.MOST_CELLS", 5)
    rows = {0: [0, 1, 2], 1: [10, 11, 12], 2: [20, 21, 22]}

    galleries = chosen({"suspicious": rows}, [2, 0, 1])

    assert galleries.order == [20, 0, 10, 21, 22]
    assert galleries.rows["suspicious"] == {2: [20, 21, 22], 0: [0], 1: [10]}


def test_cells_beside_flags_come_before_all_others(monkeypatch):
    """A few of each flagged slide, of the gallery that its flag is about; then the usual order."""
    monkeypatch.setattr("screen.report.content.galleries.MOST_CELLS", 8)
    rows = {slide: [10 * slide + n for n in range(8)] for slide in range(3)}
    strange = {1: [17, 16]}

    galleries = chosen(
        {"suspicious": rows, "strange": strange}, [1, 2, 0], {1: "strange", 2: "suspicious"}
    )

    assert galleries.order == [17, 20, 16, 21, 22, 10, 0, 23]
    assert galleries.lead == {1: [17, 16], 2: [20, 21, 22, 23]}


def test_a_cell_of_two_galleries_is_shown_once():
    """In the first of them, which also names the other; with one picture."""
    rows = {"suspicious": {0: [5, 6]}, "strange": {0: [6, 7, 5]}}

    galleries = chosen(rows, [0])

    assert sorted(galleries.order) == [5, 6, 7]
    assert galleries.rows["suspicious"] == {0: [5, 6]}
    assert galleries.rows["strange"] == {0: [7]}
    assert galleries.also == {5: ["strange"], 6: ["strange"]}


def test_marked_and_sampled_cells_are_shown_in_any_case():
    """In galleries of their own if in no other; one that is in another is not said twice."""
    galleries = chosen(
        {"suspicious": {0: [5]}}, [0], marked=[(0, 6), (0, 5)], sample=[(0, 6), (0, 7), (1, 9)]
    )

    assert galleries.order == [5, 6, 7, 9]
    assert galleries.rows["marked"] == {0: [6]}
    assert galleries.rows["sample"] == {0: [7], 1: [9]}
    assert galleries.also == {}
