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


def test_places_go_to_every_slide_first_and_then_to_the_urgent(monkeypatch):
    """Each slide's best cell is shown before any slide's second; then the first slides' rest."""
    monkeypatch.setattr("screen.report.content.galleries.MOST_CELLS", 5)
    rows = {0: [0, 1, 2], 1: [10, 11, 12], 2: [20, 21, 22]}
    top_cells = {name: Ranked({}) for name in GALLERIES} | {"suspicious": Ranked(rows)}

    galleries = choose_galleries(top_cells, [2, 0, 1])

    assert galleries.order == [20, 0, 10, 21, 22]
    assert galleries.rows["suspicious"] == {2: [20, 21, 22], 0: [0], 1: [10]}


def test_a_cell_of_two_galleries_takes_one_place():
    """It is shown in both, with one picture."""
    top_cells = {name: Ranked({}) for name in GALLERIES}
    top_cells |= {"suspicious": Ranked({0: [5, 6]}), "strange": Ranked({0: [6, 5]})}

    galleries = choose_galleries(top_cells, [0])

    assert sorted(galleries.order) == [5, 6]
    assert galleries.rows["strange"] == {0: [6, 5]}
