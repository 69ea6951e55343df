"""
Cells per second on a GPU: the engine alone, decoding alone, and both joined up; checked first.

For input sizes 224 and 300 and every runtime that works on this card:

1. decoder and runtime are held against Pillow and FP32 PyTorch on 64 cells, and repeated and
   shuffled batches against each other, bit for bit; what fails is not measured;
2. engine: the runtime's stream over pixels that lie on the GPU already;
3. decode: the decoder's stream over JPEG and over BMP files, its pixels thrown away;
4. end to end: the one into the other, as ``slidescreen run`` joins them;
5. peers: PyTorch in half precision, channels last, eager and compiled, on the same pixels.

Rates are over a fixed time after a warm-up. The memory bound is ``gpu_bound``'s: bandwidth over
the bytes that one cell moves at least. JSON and a Markdown table are written to ``--out``.

    python benchmarks/gpu.py                        # under eight minutes
    python benchmarks/gpu.py --device cpu --quick   # tries the script out; its numbers mean nothing
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench, Scale
from gpu_bound import bandwidth, bytes_per_cell
from gpu_material import bundle_of_size, cell_folders
from gpu_page import page
from gpu_peers import peers
from material import parser

from engines.hardware.gpu import gpu_or_why_not
from engines.hardware.machine import package_versions, this_machine

CELLS = 64  # held against the reference
MIB = 2**20
LAST_START = 360.0  # seconds: what takes minutes to prepare is left out after these


FULL = Scale(
    device=torch.device("cuda", 0), sizes=(224, 300), cells=8192, batch=256, seconds=4, tiny=False
)
QUICK = replace(FULL, sizes=(32,), cells=24, batch=8, seconds=0.2, tiny=True)


def main() -> None:
    """Check, measure, write."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, default=Path("gpu-benchmark"), help="results folder")
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--quick", action="store_true", help="tiny sizes, for trying it out")
    given = arguments.parse_args()
    if given.device == "cuda" and isinstance(why := gpu_or_why_not(), str):
        raise SystemExit(
            f"There is no GPU to measure: {why}.\n"
            "--device cpu --quick tries the script out; its numbers mean nothing."
        )
    if given.device == "cpu" and not given.quick:
        raise SystemExit("Without a GPU only --quick makes sense.")
    scale = QUICK if given.quick or given.small else FULL
    scale = replace(scale, device=torch.device(given.device, 0 if given.device == "cuda" else None))
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(given.cells, Path(scratch), scale)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (given.out / "gpu.md").write_text(page(report), encoding="utf-8")
    print(page(report))
    if not all(row["agrees"] for row in report["rows"]):
        raise SystemExit("Something does not agree with the reference: see above.")


def measured(cells: Path, scratch: Path, scale: Scale) -> dict[str, Any]:
    """Measure every size; return what is written."""
    start = time.monotonic()
    folders = cell_folders(cells, scratch / "cells", scale.cells)
    rows, peer_rows, bounds = [], [], {}
    for size in scale.sizes:
        bundle = bundle_of_size(size, scratch / f"bundle-{size}", tiny=scale.tiny)
        moved = bytes_per_cell(bundle)
        speed = bandwidth(scale.device)
        bounds[size] = {"bytes_per_cell": moved, "cells_per_s": speed and speed / moved}
        bench = Bench(scale, bundle, folders)
        rows += [bench.row(name) for name in bench.runtimes()]
        compiled = time.monotonic() - start < LAST_START
        peer_rows += peers(bundle, scale.batch, scale.device, scale.seconds, compiled=compiled)
    return {
        "machine": asdict(this_machine()),
        "versions": package_versions(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "scale": {**asdict(scale), "device": str(scale.device)},
        "means_nothing": scale.tiny,
        "bandwidth_bytes_per_s": bandwidth(scale.device),
        "bounds": bounds,
        "rows": rows,
        "peers": peer_rows,
        "host_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.monotonic() - start,
    }


if __name__ == "__main__":
    main()
