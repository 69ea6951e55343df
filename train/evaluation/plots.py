"""The evaluation as pictures: confusion, ROC, reliability, subjects. PNG, for the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from engines.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from train.evaluation.evaluate import Evaluation

__all__ = ["draw_plots"]

DOTS_PER_INCH = 110


def draw_plots(folder: Path, judged: Evaluation) -> list[Path]:
    """Draw what the evaluation allows (ROC and reliability need a positive class); return files."""
    plots: dict[str, Callable[[Axes, Evaluation], None]] = {
        "confusion": _confusion,
        "subjects": _subjects,
    }
    if judged.scored.positive is not None:
        plots |= {"roc": _roc, "reliability": _reliability}
    folder.mkdir(parents=True, exist_ok=True)
    return [_drawn(folder / f"{name}.png", plot, judged) for name, plot in sorted(plots.items())]


def _drawn(file: Path, plot: Callable[[Axes, Evaluation], None], judged: Evaluation) -> Path:
    """Draw one plot into *file*."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    plot(figure.subplots(), judged)
    with whole_file(file) as scratch:
        figure.savefig(scratch, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file


def _confusion(axes: Axes, judged: Evaluation) -> None:
    """Draw counts, shaded by share of the true class."""
    counts, classes = judged.confusion, judged.scored.classes
    axes.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        axes.text(column, row, str(counts[row, column]), ha="center", va="center")
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="called", ylabel="labelled", title=f"{judged.cells} cells")


def _roc(axes: Axes, judged: Evaluation) -> None:
    """Draw the ROC curve of the positive class."""
    scored = judged.scored
    false_rate, true_rate, _ = roc_curve(
        scored.truth == scored.positive, scored.ranking[:, scored.positive]
    )
    axes.plot(false_rate, true_rate)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"AUC {judged.figures['auc']}")


def _reliability(axes: Axes, judged: Evaluation) -> None:
    """Draw how often cells of each calibrated probability are positive."""
    scored = judged.scored
    share, probability = calibration_curve(
        scored.truth == scored.positive, scored.probability[:, scored.positive], n_bins=10
    )
    axes.plot(probability, share, marker="o")
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    before, after = (judged.figures[name].value for name in ("ece_uncalibrated", "ece"))
    title = f"ECE {after:.3f}, uncalibrated {before:.3f}"
    axes.set(xlabel="calibrated probability", ylabel="share positive", title=title)


def _subjects(axes: Axes, judged: Evaluation) -> None:
    """Draw each subject's share of cells called right."""
    rows = sorted(judged.subjects.items(), key=lambda row: row[1][2])
    names = [f"{subject} ({label}, {n})" for subject, (label, n, _) in rows]
    axes.barh(names, [right for _, (_, _, right) in rows])
    axes.tick_params(axis="y", labelsize=max(2, min(8, 200 // max(len(rows), 1))))
    axes.set(xlim=(0, 1), xlabel="share called right", title="subject (class, cells)")
