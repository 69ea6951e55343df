"""
The loop that timm's users write, as a process of its own: ``against_timm.py`` measures with it.

Plain timm, torch and PIL; nothing of slidescreen. Images are read by a DataLoader through timm's
own transform for the model, scored in inference mode, and written to CSV: name, number of the most
likely class, softmax. The last line on stdout is JSON: how many cells, and the seconds of the loop.

    python benchmarks/timm_loop.py CELLS --model engines/models/default --csv scores.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator


class Images(Dataset):
    """Every JPEG below a folder, as torchvision's ImageFolder reads them, without its labels."""

    def __init__(self, folder: Path, limit: int | None, transform: Any) -> None:
        """List them."""
        self.paths = sorted(folder.rglob("*.jpg"))[:limit]
        self.transform = transform

    def __len__(self) -> int:
        """Count them."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        """Read, decode and transform one."""
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.paths[index].name


def main() -> None:
    """Score a folder."""
    given = _arguments()
    model = timm.create_model(f"local-dir:{given.model}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    images = Images(given.cells, given.limit, transform)
    loader = DataLoader(images, batch_size=given.batch_size, num_workers=given.workers)
    start = time.perf_counter()
    with given.csv.open("w", newline="") as file:
        csv.writer(file).writerows(_rows(model, loader, given))
    seconds = time.perf_counter() - start
    print(json.dumps({"cells": len(images), "loop_s": seconds}))


@torch.inference_mode()
def _rows(model: torch.nn.Module, loader: DataLoader, given: Any) -> Iterator[list[Any]]:
    """Score batch by batch."""
    layout = torch.channels_last if given.channels_last else torch.contiguous_format
    dtype = torch.bfloat16 if given.bf16 == "weights" else torch.float32
    model = model.to(memory_format=layout, dtype=dtype)
    for pixels, names in loader:
        with _autocast(given.bf16):
            logits = model(pixels.to(memory_format=layout, dtype=dtype))
        chances = logits.float().softmax(dim=1)
        for name, row in zip(names, chances.tolist(), strict=True):
            yield [name, max(range(len(row)), key=row.__getitem__), *row]


def _autocast(bf16: str | None) -> AbstractContextManager[Any]:
    """Let torch pick which operations run in bfloat16, if that is asked for."""
    return torch.autocast("cpu", torch.bfloat16) if bf16 == "autocast" else nullcontext()


def _arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a folder in timm's hub layout")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, help="stop after so many cells")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", choices=["autocast", "weights"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
