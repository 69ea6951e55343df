"""
The cells that a model finds most like one of them, by their embeddings.

The search is DuckDB's: ``array_distance``, the Euclidean distance of arrays, which is part of its
core. Its vector index is an extension that would have to be downloaded, and a scan of every cell
is exact.
"""

from __future__ import annotations

from glob import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from engines.errors import ResultsError
from screen.results.folder import ResultsFolder, open_results
from screen.results.parts import whole_parts
from screen.results.schema import class_columns

if TYPE_CHECKING:
    from pathlib import Path

    from screen.results.run_record import RunRecord

__all__ = ["similar_cells"]

QUERY = """
    SELECT {columns}, array_distance(embedding::FLOAT[{width}], $query::FLOAT[{width}]) AS distance
    FROM read_parquet($files)
    WHERE embedding IS NOT NULL AND path <> $path
    ORDER BY distance, path
    LIMIT $count
"""  # (columns and width are ours: everything of the user's is a parameter)


def similar_cells(folder: Path, path: str, count: int = 20) -> list[dict[str, Any]]:
    """
    Return the cells nearest to one of them, the nearest first.

    Args:
        folder: Results of ``run --embeddings``.
        path: The cell's path, as in the results.
        count: How many.

    Returns:
        A dictionary for each: path, slide, predicted, the probabilities, and ``distance``,
        Euclidean, in the units of the model's pooled features.

    Raises:
        ResultsError: If there are no results or they have no embeddings, a part is damaged, or
            the cell is not there or was not scored.
    """
    from duckdb import connect

    results = ResultsFolder(folder.absolute())
    record = results.read_run()
    if record is None:
        raise ResultsError(
            f"{folder} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    parts = whole_parts(results, record.fingerprint.digest)
    query = _embedding(open_results(results.path), path)
    with connect() as database:
        found = database.execute(
            QUERY.format(columns=", ".join(_columns(record)), width=len(query)),
            {
                "query": query,
                "files": [escape(str(part)) for part in parts],
                "path": path,
                "count": count,
            },
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _columns(record: RunRecord) -> list[str]:
    """Name what is said of each cell found."""
    classes = class_columns(record.model.classes)
    return ["path", "slide", "predicted", *(f'"prob_{name}"' for name in classes)]


def _embedding(cells: ds.Dataset, path: str) -> list[float]:
    """Return the embedding of one cell."""
    if "embedding" not in cells.schema.names:
        raise ResultsError(
            "these results have no embeddings, which similar cells are found by",
            hint="screen the cells with slidescreen run --embeddings, into another --out",
        )
    rows = cells.to_table(columns=["embedding"], filter=pc.equal(ds.field("path"), path))
    if not len(rows):
        raise ResultsError(
            f"there is no cell {path!r} in these results",
            hint="give its path as it is in the table of cells, such as slide/cell.png",
        )
    embedding = rows["embedding"][0]
    if not embedding.is_valid:
        raise ResultsError(
            f"the cell {path!r} was not scored, so nothing can be like it",
            hint="its row says why; choose another cell",
        )
    return [float(value) for value in embedding.values.cast(pa.float32()).to_pylist()]
