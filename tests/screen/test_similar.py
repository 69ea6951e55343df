"""Embeddings are what the model pooled, and the nearest cells are found by them."""

from __future__ import annotations

from glob import escape

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import screen
from engines.errors import ResultsError
from screen.results.folder import ResultsFolder
from screen.similar import similar_cells


@pytest.fixture(scope="module")
def results(bundle, tmp_path_factory, drawn_cells):
    """A run of drawn cells, one of them damaged, in a folder whose name is a pattern."""
    out = tmp_path_factory.mktemp("runs") / "results[1]"
    list(
        screen.run(
            screen.RunOptions(
                source=drawn_cells, out=out, model=bundle.folder, embeddings=True, shard_cells=4
            )
        )
    )
    return out


@pytest.fixture(scope="module")
def drawn_cells(tmp_path_factory):
    """Seven cells, two of them the same, and one that is no image."""
    from draw_cells import draw_cell

    folder = tmp_path_factory.mktemp("drawn") / "a"
    folder.mkdir()
    for number in range(6):
        draw_cell(number, (60, 50)).save(folder / f"{number}.png")
    (folder / "copy.png").write_bytes((folder / "2.png").read_bytes())
    (folder / "bad.png").write_bytes(b"no image")
    return folder.parent


def test_embeddings_are_the_pooled_features(results, bundle):
    """Float16 of the network's width; null for a bad cell, in every part alike."""
    cells = screen.open_results(results).to_table()

    features = dict(zip(cells["path"].to_pylist(), cells["embedding"].to_pylist(), strict=True))

    assert str(cells.schema.field("embedding").type).startswith("fixed_size_list")
    assert features["a/bad.png"] is None
    assert features["a/copy.png"] == features["a/2.png"]
    network = pytest.importorskip("engines.models.serving_graph").network_from_bundle(bundle)
    logits = np.array(features["a/1.png"]) @ network.get_classifier().weight.detach().numpy().T
    logits += network.get_classifier().bias.detach().numpy()
    row = cells.slice(cells["path"].to_pylist().index("a/1.png"), 1)
    assert logits == pytest.approx([row["logit_hem"][0].as_py(), row["logit_all"][0].as_py()], 0.05)


def test_other_readers_read_them(results):
    """pandas, polars and DuckDB, each as many numbers and the same."""
    part = ResultsFolder(results).part(0)
    pandas = pd.read_parquet(part)["embedding"][0]
    polars = pl.read_parquet(part, glob=False)["embedding"][0]
    with duckdb.connect() as database:
        found = database.execute("SELECT embedding FROM read_parquet(?)", [escape(str(part))])
        duck = found.fetchall()[0][0]

    assert pandas.dtype == np.float16
    assert list(pandas) == list(polars) == list(duck)


def test_the_nearest_cells_come_first(results):
    """A copy has distance 0; the cell itself and bad ones are left out; distances are Euclid's."""
    cells = screen.open_results(results).to_table(columns=["path", "embedding"]).to_pylist()
    known = {
        row["path"]: np.array(row["embedding"], np.float32) for row in cells if row["embedding"]
    }

    found = similar_cells(results, "a/2.png")

    assert [found[0]["path"], found[0]["distance"]] == ["a/copy.png", 0]
    assert len(found) == 6
    assert [row["distance"] for row in found] == sorted(row["distance"] for row in found)
    for row in found:
        expected = np.linalg.norm(known[row["path"]] - known["a/2.png"])
        assert row["distance"] == pytest.approx(float(expected), rel=1e-4, abs=1e-4)
    assert {"slide", "predicted", "prob_all"} <= found[0].keys()
    assert len(similar_cells(results, "a/2.png", 1)) == 1


@pytest.mark.parametrize(
    ("path", "said"), [("a/9.png", "no cell"), ("a/bad.png", "was not scored")]
)
def test_a_cell_that_cannot_be_looked_for(results, path, said):
    """Is an error that says why."""
    with pytest.raises(ResultsError, match=said):
        similar_cells(results, path)


def test_embeddings_make_another_run(results, drawn_cells, bundle):
    """A run begun with them does not go on without."""
    options = screen.RunOptions(source=drawn_cells, out=results, model=bundle.folder, shard_cells=4)

    with pytest.raises(ResultsError, match="embeddings True, not False"):
        list(screen.run(options))


def test_results_without_embeddings_say_so(tmp_path):
    """And how to get them."""
    from made_results import cell, make_results

    made = make_results(tmp_path / "r", [cell("a/1.png", "a")], source="/cells")

    with pytest.raises(ResultsError, match="no embeddings") as caught:
        similar_cells(made, "a/1.png")

    assert "--embeddings" in caught.value.hint
