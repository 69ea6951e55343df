"""Where a GPU's time goes: kernels of the whole stream, and what resizing a batch takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity

from engines.backends import obstacle
from engines.decode.resize import bytes_kernel, resize_into
from engines.registry import runtime_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_bench import Bench
    from gpu_report import Report

__all__ = ["profile"]

SHOWN = 15  # kernels
CROP = 450  # pixels a side, as C-NMC's crops
TIMES = 20


def profile(report: Report, benches: Sequence[Bench]) -> None:
    """Kernels by their share of the time, of every runtime; then the resize alone."""
    bench = benches[0]
    for name in bench.runtimes():
        if bench.scale.on_gpu and (found := obstacle(runtime_row(name))) is not None:
            report.add("profile", name, skipped=found.reason)
            continue
        report.measured("profile", name, lambda name=name: _kernels(bench, name))
    report.measured("profile", f"resize {CROP} to {bench.size}", lambda: _resize(bench))


def _kernels(bench: Bench, name: str) -> dict[str, Any]:
    """Profile a short stream of JPEG files, decoding included."""
    runtime, _ = bench.opened(name)
    activities = [ProfilerActivity.CPU]
    if bench.scale.on_gpu:
        activities.append(ProfilerActivity.CUDA)
    shards = bench.shards("JPEG")[:2]
    for _ in runtime.stream(bench.decoder("JPEG").stream(shards)):
        pass  # nothing is compiled or loaded for the first time while it is profiled
    start = time.perf_counter()
    with torch.profiler.profile(activities=activities) as seen:
        cells = sum(
            len(scores.refs) for scores in runtime.stream(bench.decoder("JPEG").stream(shards))
        )
    wall = time.perf_counter() - start
    spent = {event.key: _microseconds(event) for event in seen.key_averages()}
    total = sum(spent.values()) or 1.0
    most = sorted(spent.items(), key=lambda each: -each[1])[:SHOWN]
    busy = total / 1e6 / wall
    return {
        "cells": cells,
        "us_per_cell": total / max(1, cells),
        "busy": busy,
        "kernels": {key[:100]: round(time / total, 4) for key, time in most},
    }


def _microseconds(event: Any) -> float:
    """Return what an event took itself on the device, or, where there is none, on the processor."""
    for name in ("self_device_time_total", "self_cuda_time_total"):  # releases differ
        if (value := getattr(event, name, 0)) > 0:
            return float(value)
    return float(event.self_cpu_time_total) if not torch.cuda.is_available() else 0.0


def _resize(bench: Bench) -> dict[str, Any]:
    """Time the resize of one batch, and find what it takes of the GPU's memory at most."""
    device = bench.scale.device
    images = [
        torch.randint(0, 256, (CROP, CROP, 3), dtype=torch.uint8, device=device)
        for _ in range(bench.scale.batch)
    ]
    inputs = torch.zeros((len(images), bench.size, bench.size, 3), dtype=torch.uint8, device=device)
    if bench.scale.on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if bench.scale.on_gpu else 0
    resize_into(inputs, images, bench.bundle.input)
    start = time.perf_counter()
    for _ in range(TIMES):
        resize_into(inputs, images, bench.bundle.input)
    if bench.scale.on_gpu:
        torch.cuda.synchronize(device)
    took = (time.perf_counter() - start) / TIMES / len(images)
    peak = torch.cuda.max_memory_allocated(device) - before if bench.scale.on_gpu else None
    kernel = bench.scale.on_gpu and bytes_kernel() is not None
    between = CROP * bench.size * 3  # bytes, written by the first pass and read by the second
    moved = CROP * CROP * 3 + 2 * between + bench.size * bench.size * 3
    return {
        "us_per_cell": took * 1e6,
        "by": "a kernel on bytes" if kernel else "torch",
        "mb_that_the_kernel_moves_per_cell": moved / 1e6,
        "mb_per_cell_at_most": peak and peak / len(images) / 1e6,
    }
