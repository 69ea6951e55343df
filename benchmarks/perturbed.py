"""
Does a model keep its score when the picture changes a little, as another camera would change it?

The area under the ROC curve of the positive class, over cells of the subjects that each bundle
held out, as they are and after brightening, warming, blurring, enlarging and compressing them at
their own size, and after laying them, cut out as they are, on pieces of another centre's smears:
the second, fourth ... field; the default model was trained with the others. Float32 on OpenVINO,
so that nothing but the picture differs.

    python benchmarks/perturbed.py --models engines/models/default bundle
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from material import parser
from page import print_setting, print_table
from PIL import Image, ImageFilter
from scipy.ndimage import binary_erosion
from sklearn.metrics import roc_auc_score

from engines.backends import open_runtime
from engines.cells import Batch, CellFacts, CellRef, Shard
from engines.decode.geometry import placement
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import RuntimeOptions
from train.data.backgrounds import open_backgrounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

BATCH = 8
SIDE = 450  # of C-NMC's crops
EVERY, EVERY_SMALL = 2, 40


def gained(cell: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    """Multiply channels."""
    gains = np.array([red, green, blue])
    return Image.fromarray(np.minimum(np.asarray(cell) * gains, 255).astype(np.uint8))


def compressed(cell: Image.Image) -> Image.Image:
    """Make a JPEG of it."""
    file = io.BytesIO()
    cell.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def enlarged(cell: Image.Image) -> Image.Image:
    """Magnify by a tenth, keeping the middle."""
    margin = round(cell.width * (1 - 1 / 1.1) / 2)
    box = (margin, margin, cell.width - margin, cell.height - margin)
    return cell.resize(cell.size, Image.Resampling.BICUBIC, box=box)


def laid_on(cell: Image.Image, pieces: NDArray[np.uint8]) -> Image.Image:
    """Put a piece of a smear behind a cell, mirrored at its edges; the cell decides which."""
    pixels = np.asarray(cell)
    piece = pieces[int(pixels.sum()) % len(pieces)]
    margin = -(-(cell.width - len(piece)) // 2)
    behind = np.pad(piece, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    behind = behind[: cell.height, : cell.width]
    inside = binary_erosion(pixels.max(2) > 1, iterations=3)[:, :, None]
    return Image.fromarray(np.where(inside, pixels, behind))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda cell: cell,
    "a tenth brighter": lambda cell: gained(cell, 1.1, 1.1, 1.1),
    "warmer": lambda cell: gained(cell, 1.1, 1.0, 0.92),
    "blurred": lambda cell: cell.filter(ImageFilter.GaussianBlur(2)),
    "a tenth larger": enlarged,
    "JPEG of quality 60": compressed,
}


def main() -> None:
    """Judge each bundle under each change."""
    arguments = parser(__doc__)
    arguments.add_argument("--models", type=Path, nargs="+", default=[DEFAULT_BUNDLE])
    options = arguments.parse_args()
    every = EVERY_SMALL if options.small else EVERY
    changes = {
        **CHANGES,
        "on another centre's smear": partial(laid_on, pieces=smears(options.cells)),
    }
    columns = []
    for folder in options.models:
        bundle = ModelBundle.load(folder)
        files = held_out(options.cells, bundle)[::every]
        print(f"{folder}: {len(files)} held-out cells")
        columns.append([auc(bundle, files, change) for change in changes.values()])
    rows = [(name, *(f"{column[i]:.3f}" for column in columns)) for i, name in enumerate(changes)]
    print_table("AUC", ("", *map(str, options.models)), rows)
    print_setting(small=options.small)


def smears(cells: Path) -> NDArray[np.uint8]:
    """Cut pieces out of every second field."""
    with TemporaryDirectory() as folder:
        for field in sorted((cells / "smear-fields").glob("*.jpg"))[1::2]:
            Path(folder, field.name).symlink_to(field.resolve())
        return open_backgrounds(Path(folder), SIDE, SIDE).numpy()


def held_out(cells: Path, bundle: ModelBundle) -> list[Path]:
    """List the cells of the subjects that a bundle was not trained on, by C-NMC's names."""
    subjects = set(bundle.data["held_out_subjects"])
    files = sorted(
        file for fold in ("cnmc-fold0", "cnmc-fold2") for file in (cells / fold).rglob("UID_*")
    )
    return [file for file in files if file.name.split("_")[1].upper() in subjects]


def auc(
    bundle: ModelBundle, files: Sequence[Path], change: Callable[[Image.Image], Image.Image]
) -> float:
    """Score changed cells."""
    runtime = open_runtime("openvino", bundle, RuntimeOptions(precision="fp32", batch=BATCH))
    scores = runtime.stream(batches(bundle, files, change))
    logits = np.concatenate([item.logits for item in scores])
    column = bundle.classes.index(str(bundle.positive))
    rest = np.delete(logits, column, axis=1).max(axis=1)
    return float(
        roc_auc_score([f.parent.name == bundle.positive for f in files], logits[:, column] - rest)
    )


def batches(
    bundle: ModelBundle, files: Sequence[Path], change: Callable[[Image.Image], Image.Image]
) -> Iterator[Batch]:
    """Read, change and resize."""
    refs = tuple(CellRef(str(file), file.name.split("_")[1]) for file in files)
    shard = Shard(0, refs)
    for start in range(0, len(files), BATCH):
        some = slice(start, start + BATCH)
        pixels = np.stack([changed(file, bundle, change) for file in files[some]])
        yield Batch(shard, refs[some], (CellFacts(),) * len(pixels), pixels)


def changed(
    file: Path, bundle: ModelBundle, change: Callable[[Image.Image], Image.Image]
) -> NDArray[np.uint8]:
    """Return one cell as the model would see it."""
    cell = np.asarray(change(Image.open(file).convert("RGB")))
    place = placement(*cell.shape[:2], bundle.input)
    window = Image.fromarray(cell[place.window.slices])
    size = (bundle.input.width, bundle.input.height)
    return np.asarray(window.resize(size, Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
