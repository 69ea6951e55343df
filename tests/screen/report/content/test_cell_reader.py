"""Single rows out of the parts of a run."""

from __future__ import annotations

from made_results import overview


def test_rows_are_taken_across_parts(tmp_path, forty):
    """Single rows come back as they were written, whatever part they are in."""
    _, rows, _ = overview(tmp_path, forty)

    taken = [
        row["path"] for batch in rows.take([0, 6, 7, 39], ["path"]) for row in batch.to_pylist()
    ]

    assert taken == [forty[n]["path"] for n in (0, 6, 7, 39)]
