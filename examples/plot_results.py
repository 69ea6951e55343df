"""
Read results with SQL and draw a figure: the slides' shares, and how cells spread below them.

Needs ``pip install duckdb matplotlib``; polars and pandas read the same files.

Example:
    python examples/plot_results.py results figure.png
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import duckdb
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw", "probabilities_by_slide", "slides"]

SLIDES = """
    SELECT slide, n_ok, fraction_positive AS share,
           fraction_positive_wilson95_low AS low, fraction_positive_wilson95_high AS high
    FROM read_parquet($slides) WHERE n_ok > 0 ORDER BY share, slide
"""
CELLS = """
    SELECT slide, list({column} ORDER BY path) AS chances
    FROM read_parquet($cells) WHERE status = 'ok' GROUP BY slide
"""


def slides(results: Path) -> list[tuple[str, int, float, float, float]]:
    """Return slide, cells scored, share of positive ones and its interval, by rising share."""
    found = duckdb.execute(SLIDES, {"slides": str(results / "slides.parquet")})
    return found.fetchall()


def probabilities_by_slide(results: Path, positive: str) -> dict[str, list[float]]:
    """Return the probabilities of the positive class of every slide's scored cells."""
    column = "prob_" + re.sub(r"\W", "_", positive, flags=re.ASCII)
    cells = {"cells": str(results / "cells" / "*.parquet")}
    return dict(duckdb.execute(CELLS.format(column=column), cells).fetchall())


def draw(results: Path) -> Figure:
    """Draw slides in rows: on the left the share and its interval, on the right the cells."""
    positive = json.loads((results / "run.json").read_text(encoding="utf-8"))["model"]["positive"]
    rows = slides(results)
    chances = probabilities_by_slide(results, positive)
    names, cells, share, low, high = (np.array(column) for column in zip(*rows, strict=True))
    place = np.arange(len(rows))
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.errorbar(share, place, xerr=[share - low, high - share], fmt="o", color="#7a2a87")
    left.set(xlim=(0, 1), xlabel=f"share of cells called '{positive}' (95%, Wilson)")
    left.set_yticks(place, [f"{name}  n={n}" for name, n in zip(names, cells, strict=True)])
    right.boxplot([chances[name] for name in names], positions=place, orientation="horizontal")
    right.set(xlim=(0, 1), xlabel=f"probability of '{positive}', each cell")
    right.set_yticks(place, [f"{name}  n={n}" for name, n in zip(names, cells, strict=True)])
    return figure


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw a figure of results.")
    parser.add_argument("results", type=Path)
    parser.add_argument("figure", type=Path, help=".png, .svg or .pdf")
    asked = parser.parse_args()
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    draw(asked.results).savefig(asked.figure, dpi=150)
    print(f"{asked.figure}: {len(slides(asked.results))} slides")


if __name__ == "__main__":
    main()
