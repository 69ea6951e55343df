"""What the GPU benchmark runs on: bundles of two input sizes, and folders of cells."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import timm
from material import FORMATS, REPOSITORY, converted, linked
from safetensors.torch import save_file

from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle, save_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FORMATS_OF_CELLS", "bundle_of_size", "cell_folders"]

FORMATS_OF_CELLS = ("JPEG", "BMP", "PNG")
DRAWN = 200  # pictures, if there are no real ones
TINY = "test_efficientnet"


def bundle_of_size(size: int, folder: Path, *, tiny: bool) -> ModelBundle:
    """Make the default model for *size* x *size*, once; where *tiny*, one that means nothing."""
    if (folder / "screening.json").exists():
        return ModelBundle.load(folder)
    config = json.loads((DEFAULT_BUNDLE / "config.json").read_text(encoding="utf-8"))
    screening = json.loads((DEFAULT_BUNDLE / "screening.json").read_text(encoding="utf-8"))
    for name in ("format", "weights_sha256", "trust_sha256"):  # fitted at the model's own size
        screening.pop(name, None)
    screening["input"] |= {"height": size, "width": size}
    config["pretrained_cfg"] |= {"input_size": [3, size, size]}
    weights = DEFAULT_BUNDLE / "model.safetensors"
    folder.mkdir(parents=True)
    if tiny:
        config["architecture"] = TINY
        weights = folder / "tiny.safetensors"
        network = timm.create_model(TINY, num_classes=len(screening["classes"]))
        save_file(network.state_dict(), weights)
    return save_bundle(folder, config=config, weights=weights, screening=screening)


def cell_folders(cells: Path, scratch: Path, count: int) -> dict[str, Path]:
    """Make a folder of *count* cells of each format; real ones if there are any in *cells*."""
    real = {"JPEG": "cnmc-jpeg", "BMP": "cnmc-bmp"}
    pictures = {name: sorted((cells / of).rglob("UID_*")) for name, of in real.items()}
    if not all(pictures.values()):
        pictures = _drawn(scratch / "drawn", min(count, DRAWN))
    few = pictures["BMP"][: min(count, DRAWN)]
    pictures["PNG"] = converted(few, scratch / "png", FORMATS["PNG"])
    return {name: linked(paths, scratch / name, count) for name, paths in pictures.items()}


def _drawn(folder: Path, count: int) -> dict[str, Sequence[Path]]:
    """Draw cells as the examples do."""
    sys.path.append(str(REPOSITORY / "examples"))
    from draw_cells import draw_cell

    folder.mkdir(parents=True)
    bitmaps = [folder / f"{seed:04d}.bmp" for seed in range(count)]
    for seed, path in enumerate(bitmaps):
        draw_cell(seed).save(path)
    return {"BMP": bitmaps, "JPEG": converted(bitmaps, folder / "jpeg", FORMATS["JPEG"])}
