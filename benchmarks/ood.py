"""
Which score tells strangers from the cells that a model was trained for?

Every score is fitted on the pooled features (or logits) of cells that the default model was trained
on, and judged by its AUROC: how often a strange image scores higher than a cell of a held-out
subject of the training centre, ties half. Strangers: white cells, red cells and platelets cut from
smears of another centre (``smear-fields``, by its boxes); PBC's eight kinds of normal blood cells,
of another centre, too, as they are and with the background cut away; and what goes wrong with
images: blur, inverted and swapped colours, noise, blanks. Features are those that the run computes
(bfloat16 where it does). Ours also looks at the colours (``engines.uncertainty.ood.together``).
"""

from __future__ import annotations

import csv
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import torch
from material import parser
from page import print_setting, print_table
from PIL import Image, ImageFilter
from scipy.ndimage import binary_fill_holes, binary_opening, label
from scipy.special import logsumexp
from scipy.stats import rankdata

from engines.backends import open_runtime, precision_candidates, runtime_candidates
from engines.cells import OPTICAL, Batch, CellFacts, CellRef, Shard
from engines.decode.geometry import placement
from engines.image_quality import quality
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import RuntimeOptions
from engines.uncertainty.ood import ColourSpace, FeatureSpace, together
from train.data.decoded import decoded_cells
from train.data.labelled_cells import open_labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engines.models.input import ModelInput
    from engines.runtime.base import Runtime

BATCH = 8
NEIGHBOURS = 10
BOXES = {"WBC": 300, "RBC": 200, "Platelets": 150}
PBC = (
    "basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil",
    "platelet",
)  # fmt: skip
PBC_CELLS = 60  # of each kind
LEAST_SIDE = 8  # of a box, in pixels; some are empty


class Outputs:
    """Logits and features of some images."""

    def __init__(self, runtime: Runtime, pixels: np.ndarray) -> None:
        """Score them."""
        scores = list(runtime.stream(batches(pixels)))
        self.logits = np.concatenate([item.logits for item in scores]).astype(np.float64)
        self.features = np.concatenate([item.features for item in scores]).astype(np.float64)
        split = torch.split(torch.from_numpy(pixels), BATCH)
        self.optical = torch.cat([quality(some) for some in split]).numpy()[:, -len(OPTICAL) :]


def batches(pixels: np.ndarray, size: int = BATCH) -> Iterator[Batch]:
    """Wrap images for a runtime."""
    for start in range(0, len(pixels), size):
        some = pixels[start : start + size]
        refs = tuple(CellRef(str(start + k), "") for k in range(len(some)))
        yield Batch(Shard(0, refs), refs, (CellFacts(),) * len(some), some)


def smear_crops(folder: Path, kind: str, expected: ModelInput) -> np.ndarray:
    """Cut some boxes of a kind out of the fields and show them as the model expects crops."""
    with (folder / "boxes.csv").open(encoding="utf-8") as text:
        rows = [row for row in csv.DictReader(text) if row["class"] == kind]
    crops = []
    for row in rows[:: max(1, len(rows) // BOXES[kind])]:
        x, y, width, height = (int(float(row[name])) for name in ("x", "y", "width", "height"))
        if min(width, height) >= LEAST_SIDE:
            with Image.open(folder / row["image"]) as field:
                crop = np.asarray(field.convert("RGB").crop((x, y, x + width, y + height)))
            window = Image.fromarray(crop[placement(*crop.shape[:2], expected).window.slices])
            size = (expected.width, expected.height)
            crops.append(np.asarray(window.resize(size, Image.Resampling.BICUBIC)))
    return np.stack(crops)


def pbc_cells(folder: Path, kind: str, expected: ModelInput, count: int) -> np.ndarray:
    """Show some cells of one of PBC's kinds as the model expects crops."""
    with tarfile.open(folder / f"{kind}.tar") as shard:
        members = [m for m in shard.getmembers() if m.name.endswith(".webp")]
        files = [shard.extractfile(m) for m in members[:: len(members) // count][:count]]
        cells = [np.asarray(Image.open(file).convert("RGB")) for file in files if file]
    size = (expected.width, expected.height)
    windows = [Image.fromarray(c[placement(*c.shape[:2], expected).window.slices]) for c in cells]
    return np.stack([np.asarray(w.resize(size, Image.Resampling.BICUBIC)) for w in windows])


def cut_out(cells: np.ndarray) -> np.ndarray:
    """
    Blacken all but the cell in the middle, as C-NMC's crops are.

    The cell is what lies together with the darkest thing near the middle: Otsu's threshold on
    green, where stains absorb most, opened and filled.
    """
    return np.stack([cell * cell_mask(cell)[:, :, None] for cell in cells])


def cell_mask(cell: np.ndarray) -> np.ndarray:
    """Find the pixels of the cell in the middle."""
    green = cell[:, :, 1]
    stained = binary_opening(green < otsu(green), iterations=2)
    numbers, _ = label(stained)
    middle = np.array(green.shape) / 2
    places = np.argwhere(stained)
    if not len(places):
        return np.ones_like(stained)
    nearest = places[((places - middle) ** 2).sum(1).argmin()]
    return binary_fill_holes(numbers == numbers[tuple(nearest)])


def otsu(grey: np.ndarray) -> int:
    """Return the grey value that parts dark and bright best (Otsu 1979)."""
    count = np.bincount(grey.ravel(), minlength=256).astype(float)
    below, total = count.cumsum(), (count * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * below / below[-1] - total) ** 2 / (below * (below[-1] - below))
    return int(np.nan_to_num(between, nan=0.0, posinf=0.0).argmax()) + 1


def spoiled(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Spoil cells in ways that a screen may meet."""
    rng = np.random.default_rng(0)
    grey = np.arange(0, 256, 5, dtype=np.uint8)[:, None, None, None]

    def blurred(radius: int) -> np.ndarray:
        blur = ImageFilter.GaussianBlur(radius)
        return np.stack([np.asarray(Image.fromarray(cell).filter(blur)) for cell in cells])

    return {
        "blur 2": blurred(2),
        "blur 6": blurred(6),
        "inverted": 255 - cells,
        "red for blue": np.ascontiguousarray(cells[..., ::-1]),
        "noise": rng.integers(0, 256, (100, *cells.shape[1:]), dtype=np.uint8),
        "blank": np.broadcast_to(grey, (len(grey), *cells.shape[1:])).copy(),
    }


def scores(training: Outputs, truth: np.ndarray) -> dict[str, Callable[[Outputs], np.ndarray]]:
    """Return the candidates, the highest being the strangest."""
    features = training.features
    classes = FeatureSpace.fitted(features, truth)
    single = FeatureSpace.fitted(features, np.zeros(len(truth), int))
    colours = ColourSpace.fitted(training.optical)
    return {
        "Mahalanobis, by class, and colours (ours)": lambda some: together(
            classes.distances(some.features), colours.distances(some.optical)
        ),
        "colours": lambda some: np.nan_to_num(colours.distances(some.optical), nan=np.inf),
        "Mahalanobis, by class": lambda some: classes.distances(some.features),
        "Mahalanobis, one centre": lambda some: single.distances(some.features),
        "relative Mahalanobis": lambda some: (
            classes.distances(some.features) ** 2 - single.distances(some.features) ** 2
        ),
        "outside the leading directions": lambda some: residual(single, some.features),
        "nearest neighbours": lambda some: neighbours(features, some.features),
        "nearest neighbours, normalised": lambda some: neighbours(
            normalised(features, features), normalised(features, some.features)
        ),
        "energy of the logits": lambda some: -logsumexp(some.logits, axis=1),
        "largest probability": lambda some: -largest(some.logits),
    }


def residual(space: FeatureSpace, features: np.ndarray) -> np.ndarray:
    """Return what the leading directions do not explain."""
    offset = features - space.centres[0]
    return (offset**2).sum(1) - ((offset @ space.directions.T) ** 2).sum(1)


def neighbours(training: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the squared distance from the tenth nearest training cell (Sun et al., 2022)."""
    squared = (features**2).sum(1)[:, None] + (training**2).sum(1) - 2 * features @ training.T
    return np.sort(squared, axis=1)[:, NEIGHBOURS - 1]


def normalised(training: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return features as directions from the training mean."""
    offset = features - training.mean(0)
    return offset / np.linalg.norm(offset, axis=1, keepdims=True)


def largest(logits: np.ndarray) -> np.ndarray:
    """Return the largest probability."""
    return np.exp(logits.max(1) - logsumexp(logits, axis=1))


def auroc(usual: np.ndarray, strange: np.ndarray) -> float:
    """Return how often the strange score higher."""
    ranks = rankdata(np.concatenate([usual, strange]))[len(usual) :]
    return (ranks.mean() - (len(strange) + 1) / 2) / len(usual)


def main() -> None:
    """Measure and print."""
    given = parser(__doc__).parse_args()
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    name = next(runtime_candidates()).value
    options = RuntimeOptions(precision=next(precision_candidates(name)).value, batch=BATCH)
    runtime = open_runtime(name, bundle, options)
    every = open_labelled([given.cells / "cnmc-fold0", given.cells / "cnmc-fold2"])
    step = 20 if given.small else 2
    known = [c for c in every if c.subject in bundle.data["training_subjects"]][::step]
    unseen = [c for c in every if c.subject in bundle.data["held_out_subjects"]][:: step // 2]
    training, held_out = (decoded_cells(cells, bundle.input) for cells in (known, unseen))
    learned, usual = Outputs(runtime, training.pixels), Outputs(runtime, held_out.pixels)
    strange = {
        f"smear {kind}": smear_crops(given.cells / "smear-fields", kind, bundle.input)
        for kind in BOXES
    }
    for kind in PBC:
        cells = pbc_cells(given.cells / "pbc", kind, bundle.input, 10 if given.small else PBC_CELLS)
        strange |= {f"PBC {kind}": cells, f"PBC {kind}, cut out": cut_out(cells)}
    strange |= spoiled(held_out.pixels[::5])
    found = {kind: Outputs(runtime, pixels) for kind, pixels in strange.items()}
    truth = np.array([bundle.classes.index(cell.label) for cell in training.cells])
    rows = []
    for title, score in scores(learned, truth).items():
        areas = [auroc(score(usual), score(outputs)) for outputs in found.values()]
        rows.append([title, *(f"{area:.3f}" for area in areas), f"{min(areas):.3f}"])
    counts = f"{len(known)} training cells, {len(unseen)} held-out cells"
    print_table(f"AUROC; {counts}", ["score", *found, "worst"], rows)
    print_setting(small=given.small)


if __name__ == "__main__":
    main()
