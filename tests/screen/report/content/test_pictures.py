"""Which pictures are whole, small or left out, by the room there is."""

from __future__ import annotations

import pytest

from screen.report.content.pictures import Picture, _Allowance


def kinds(allowance, sizes, small):
    """Spend an allowance on whole pictures of *sizes*, or small ones where they do not fit."""
    for size in sizes:
        whole = Picture(uri="x" * size, whole=True)
        keep = allowance.whole and allowance.takes_whole(whole)
        made = allowance.spent(whole if keep else Picture(uri="x" * small))
        yield made.problem or ("whole" if made.whole else "small")


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (1000, ["whole"] * 10),
        (600, ["whole"] * 6 + ["small"] * 4),  # 6 x 90 leave 60: more than 4 small ones
        (200, ["whole"] + ["small"] * 9),
        (100, ["small"] * 10),
        (80, ["small"] * 8 + ["left_out"] * 2),
    ],
)
def test_whole_while_all_others_still_get_a_small_one(room, expected):
    """Then small, then none."""
    assert list(kinds(_Allowance(room, 10, 10), [90] * 10, 10)) == expected


def test_a_quarter_of_the_room_goes_to_whole_pictures_in_any_case():
    """Though not every cell then has one."""
    found = list(kinds(_Allowance(800, 100, 20), [90] * 100, 20))

    assert found == ["whole"] * 2 + ["small"] * 31 + ["left_out"] * 67


def test_nothing_costs_more_than_the_room():
    """A small picture larger than what is left is left out; a smaller one after it is not."""
    allowance = _Allowance(50, 3, 10)
    allowance.whole = False

    made = [allowance.spent(Picture(uri="x" * size)) for size in (30, 40, 20)]

    assert [each.problem for each in made] == ["", "left_out", ""]
    assert allowance.room == 0
