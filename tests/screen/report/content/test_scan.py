"""One pass over the cells, against a plain account of what it should find."""

from __future__ import annotations

import numpy as np
from made_results import cell, overview

from screen.report.content.scan import GALLERIES, SAMPLE_CELLS


def test_galleries_hold_what_they_say(tmp_path, forty):
    """By slide: highest probability, nearest to the threshold, farthest from training, faults."""
    found, _, _ = overview(tmp_path, forty)

    keys = {
        "suspicious": lambda each: -np.float32(each["prob_all"]),
        "uncertain": lambda each: abs(np.float64(np.float32(each["prob_all"])) - 0.4),
        "strange": lambda each: -np.float32(each["ood_score"]),
    }
    for name, key in keys.items():
        for index, slide in enumerate(["s0", "s1", "s2"]):
            own = [n for n, each in enumerate(forty) if each["slide"] == slide]
            scored = [n for n in own if forty[n]["status"] == "ok"]
            expected = sorted(scored, key=lambda n: key(forty[n]))
            assert found.top_cells[name].ranked()[index] == expected[: GALLERIES[name]]
    faults = [n for n, each in enumerate(forty) if each["status"] != "ok"]
    shown = found.top_cells["unscored"].ranked().values()
    assert sorted(row for rows in shown for row in rows) == faults


def test_histograms_count_every_scored_cell_of_a_slide(tmp_path, forty):
    """In bins of equal width; 1 lies in the last."""
    forty[1] |= {"prob_all": 1.0, "prob_hem": 0.0}

    found, _, _ = overview(tmp_path, forty)

    for index, slide in enumerate(["s0", "s1", "s2"]):
        values = [
            np.float32(each["prob_all"])
            for each in forty
            if each["slide"] == slide and each["status"] == "ok"
        ]
        expected, _ = np.histogram(values, 40, (0, 1))
        assert found.histogram[index].tolist() == expected.tolist()


def test_the_sample_is_bounded_and_even(tmp_path):
    """Of many cells about as many as promised, from all along the plan."""
    cells = [cell(f"s/{n:05}.png", "s", focus=float(n)) for n in range(3 * SAMPLE_CELLS)]

    found, _, _ = overview(tmp_path, cells, part_cells=4096)
    (focus,) = (np.concatenate(found.sample[name]) for name in ["focus"])

    assert abs(len(focus) - SAMPLE_CELLS) < 10
    assert np.diff(focus).max() < 10
