"""Real cells, where they are there."""

from __future__ import annotations

import json

import pyarrow.compute as pc
import pytest

import screen

pytestmark = pytest.mark.realcells


def test_original_bmps_are_screened_by_subject(real_cells, tmp_path):
    """The shipped model on C-NMC's own files: 28 subjects, and one of no subject's."""
    options = screen.RunOptions(
        source=real_cells / "cnmc-bmp", out=tmp_path, slide=screen.SlideRule("cnmc")
    )
    list(screen.run(options))

    cells = screen.open_results(tmp_path).to_table()
    record = json.loads((tmp_path / "run.json").read_text())

    assert set(cells["status"].to_pylist()) == {"ok"}
    assert sorted(pc.unique(cells["width"]).to_pylist()) == [450, 600]
    assert record["counts"]["slides"] == 29
    assert record["counts"]["unmatched"] == 1
    assert record["parity"]["scores"]["cells"] == 64


def test_formats_are_told_from_bytes_not_names(real_cells, bundle, tmp_path):
    """PNG named .jpg is decoded."""
    options = screen.RunOptions(source=real_cells / "misnamed", out=tmp_path, model=bundle.folder)
    list(screen.run(options))

    assert set(screen.open_results(tmp_path).to_table()["status"].to_pylist()) == {"ok"}


def test_lossless_webp_and_original_bmp_score_the_same(real_cells, bundle, tmp_path):
    """The same pixels in two formats are the same logits, bit for bit."""
    pairs = sorted((real_cells / "cnmc-bmp").glob("UID_*"))[::8]
    for kind in ("bmp", "webp"):
        (tmp_path / kind).mkdir()
    for path in pairs:
        webp = real_cells / "cnmc-fold0" / path.stem.split("_")[-1] / f"{path.stem}.webp"
        (tmp_path / "bmp" / path.name).symlink_to(path)
        (tmp_path / "webp" / webp.name).symlink_to(webp)

    logits = []
    for kind in ("bmp", "webp"):
        out = tmp_path / f"{kind}-results"
        list(screen.run(screen.RunOptions(source=tmp_path / kind, out=out, model=bundle.folder)))
        logits.append(screen.open_results(out).to_table()["logit_all"].to_pylist())

    assert len(pairs) == len(logits[0]) > 5
    assert logits[0] == logits[1]
