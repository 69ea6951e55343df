"""The stages of the GPU benchmark; each writes its results down one by one."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu_bench import CELLS, logits_of, on_host
from gpu_bound import bandwidth, bytes_per_cell
from gpu_material import FORMATS_OF_CELLS
from gpu_peers import PEERS
from gpu_profile import profile
from gpu_tune import tuning

from engines import parity
from engines.backends import obstacle
from engines.hardware.machine import package_versions, this_machine, usable_cores
from engines.registry import RUNTIMES, runtime_row
from screen.runners.slot_check import require_equal_slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_bench import Bench
    from gpu_report import Report

    from engines.decode.base import Decoder

__all__ = ["STAGES"]

MIB = 2**20
COPIED = 256 * MIB  # bytes
OPENING = 20  # seconds that a runtime whose engine is in the cache takes to open, at least


def env(report: Report, benches: Sequence[Bench]) -> None:
    """What there is."""
    bench = benches[0]
    report.measured("env", "machine", lambda: asdict(this_machine()))
    report.measured("env", "packages", package_versions)
    report.measured("env", "runtimes", _what_keeps_runtimes_away)
    report.measured("env", "compilers", lambda: {name: shutil.which(name) or "absent"
                                                 for name in ("cc", "gcc", "nvcc")})  # fmt: skip
    report.measured("env", "card", lambda: _card(bench))
    for one in benches:
        report.measured(
            "env",
            f"bound at {one.size}",
            lambda one=one: {"mb_per_cell": bytes_per_cell(one.bundle) / 1e6, "cells": one.bound},
        )


def slots(report: Report, benches: Sequence[Bench]) -> None:
    """Whether every runtime agrees with PyTorch, with itself, and with any of its slots."""
    for name in benches[0].runtimes():
        if _is_here(report, "slots", name, benches[0]):
            report.measured("slots", name, lambda name=name: _checked(benches[0], name))


def engine(report: Report, benches: Sequence[Bench]) -> None:
    """How fast each runtime is on pixels that are there already."""
    for bench in benches:
        for name in bench.runtimes():
            if _is_here(report, "engine", f"{name} at {bench.size}", bench, name):
                report.measured(
                    "engine",
                    f"{name} at {bench.size}",
                    lambda bench=bench, name=name: _engine_rate(bench, name),
                    least=OPENING if bench.scale.on_gpu else 0,
                )


def decode(report: Report, benches: Sequence[Bench]) -> None:
    """How fast cells of each format are decoded, and how close to Pillow."""
    bench = benches[0]
    cores = usable_cores()
    for form in FORMATS_OF_CELLS:
        report.measured("decode", form, lambda form=form: _decoding(bench, form, cores))
    for threads in sorted({2, 4, 8, 16, 32} - {cores}):
        if threads <= 2 * cores:
            report.measured(
                "decode",
                f"JPEG, {threads} threads",
                lambda threads=threads: _decoding(bench, "JPEG", threads),
            )
    if bench.scale.on_gpu:
        for form in FORMATS_OF_CELLS:
            report.measured(
                "decode",
                f"{form} on the processor",
                lambda form=form: _decoding(bench, form, cores, "cpu"),
            )


def e2e(report: Report, benches: Sequence[Bench]) -> None:
    """Decoding joined to every runtime, and how much of the slower of the two comes of it."""
    bench = benches[0]
    for name in bench.runtimes():
        if not _is_here(report, "e2e", name, bench):
            continue
        opened: dict[str, Any] = {}

        def opening(name: str = name, opened: dict[str, Any] = opened) -> dict[str, Any]:
            opened["runtime"], seconds = bench.opened(name)
            return {"version": opened["runtime"].version, "opened_in_s": seconds}

        if not report.measured("e2e", name, opening):
            continue
        for form in ("JPEG", "BMP"):
            alone = [report.fact("engine", f"{name} at {bench.size}", "cells_per_s"),
                     report.fact("decode", form, "cells_per_s")]  # fmt: skip
            report.measured(
                "e2e",
                f"{name}, {form}",
                lambda form=form, opened=opened, alone=alone: _joined(
                    bench, opened["runtime"], form, alone
                ),
            )


def peers(report: Report, benches: Sequence[Bench]) -> None:
    """What people would write instead, on the same network."""
    for bench in benches:
        for name, peer in PEERS.items():
            row = report.measured(
                "peers", f"{name} at {bench.size}", lambda bench=bench, peer=peer: peer(bench)
            )
            ours = [report.fact("engine", f"{each} at {bench.size}", "cells_per_s")
                    for each in bench.runtimes()]  # fmt: skip
            best = max((rate for rate in ours if rate), default=None)
            if best and row.get("cells_per_s"):
                faster = best / row["cells_per_s"]
                report.add("peers", f"ours, of {name} at {bench.size}", faster=faster)


def _is_here(
    report: Report, stage: str, what: str, bench: Bench, runtime: str | None = None
) -> bool:
    """Tell whether a runtime works here; write down what keeps it away."""
    found = obstacle(runtime_row(runtime or what)) if bench.scale.on_gpu else None
    if found is not None:
        report.add(stage, what, skipped=found.reason)
    return found is None


def _what_keeps_runtimes_away() -> dict[str, str]:
    """Say of every runtime why it does not work here."""
    found = {row.name: obstacle(row) for row in RUNTIMES}
    return {name: why.reason if why else "works" for name, why in found.items()}


def _card(bench: Bench) -> dict[str, Any]:
    """What the card says of itself, and what its memory and the bus do."""
    device = bench.scale.device
    there = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    other = torch.empty_like(there)
    staged = torch.zeros(COPIED, dtype=torch.uint8, pin_memory=bench.scale.on_gpu)
    facts: dict[str, Any] = {
        "stated_gb_per_s": (bandwidth(device) or 0) / 1e9,
        "copied_gb_per_s": 2 * COPIED / _seconds(lambda: other.copy_(there), device) / 1e9,
        "upload_gb_per_s": COPIED
        / _seconds(lambda: there.copy_(staged, non_blocking=True), device)
        / 1e9,
    }
    if bench.scale.on_gpu:
        card = torch.cuda.get_device_properties(device)
        facts |= {
            name: getattr(card, name, None)
            for name in ("name", "total_memory", "multi_processor_count", "L2_cache_size",
                         "memory_clock_rate", "memory_bus_width")
        }  # fmt: skip
    return facts


def _seconds(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Return how long something takes on a device."""
    for _ in range(2):
        work()
    _finish(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _finish(device)
    return (time.perf_counter() - start) / times


def _finish(device: torch.device) -> None:
    """Wait for a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _checked(bench: Bench, name: str) -> dict[str, Any]:
    """Open a runtime and hold it against PyTorch and against itself."""
    runtime, seconds = bench.opened(name)
    facts = {"version": runtime.version, "opened_in_s": seconds, **bench.agreement(runtime)}
    host = [on_host(batch, slice(None)) for batch in bench.sample]
    require_equal_slots(runtime, host)
    logits = logits_of(runtime, bench.sample)
    alone = all(
        np.array_equal(
            logits_of(runtime, [on_host(batch, slice(0, 1))])[0], logits_of(runtime, [batch])[0]
        )
        for batch in bench.sample
    )
    repeats = all(np.array_equal(logits_of(runtime, bench.sample), logits) for _ in range(3))
    facts |= {"slots_equal": True, "alone_equal": alone, "repeats_equal": repeats}
    return facts | {"agrees": facts["agrees"] and alone and repeats}


def _engine_rate(bench: Bench, name: str) -> dict[str, Any]:
    """Open a runtime and stream batches that lie on the device."""
    runtime, seconds = bench.opened(name)
    rate = bench.rate(runtime.stream(bench.until(bench.pixels)))
    facts = {"cells_per_s": rate, "of_bound": bench.bound and rate / bench.bound}
    facts |= {"version": runtime.version, "opened_in_s": seconds, **bench.agreement(runtime)}
    if bench.scale.on_gpu:
        free, total = torch.cuda.mem_get_info(bench.scale.device)
        facts["gpu_mib"] = (total - free) / MIB  # all libraries together: torch's misses TensorRT's
    return facts


def _decoding(bench: Bench, form: str, threads: int, device: str | None = None) -> dict[str, Any]:
    """Hold a decoder against Pillow, then stream cells through it."""
    decoder = bench.decoder(form, threads=threads, device=device)
    facts = _pixels(bench, form, decoder)
    return {
        "cells_per_s": bench.rate(decoder.stream(bench.until(bench.shards(form)))),
        "threads": threads,
        "version": decoder.version,
        **facts,
    }


def _pixels(bench: Bench, form: str, decoder: Decoder) -> dict[str, Any]:
    """Hold a decoder against Pillow."""
    batches = parity.sample(decoder, bench.plans[form].spread(CELLS), CELLS)
    found = parity.compare_decoder(bench.decoder(form, "pillow", "cpu"), batches)
    if found is None:
        raise RuntimeError("no cell was decoded")
    codecs = sorted({str(facts.codec) for batch in batches for facts in batch.facts})
    return {
        "agrees": bool(found.holds),
        "mean_difference": found.mean,
        "p999": found.p999,
        "decoded_by": ", ".join(codecs),
    }


def _joined(bench: Bench, runtime: Any, form: str, alone: Sequence[float | None]) -> dict[str, Any]:
    """Stream files through decoder and runtime."""
    batches = bench.decoder(form).stream(bench.until(bench.shards(form)))
    rate = bench.rate(runtime.stream(batches))
    known = [each for each in alone if each]
    slower = min(known) if len(known) == len(alone) else None
    return {"cells_per_s": rate, "of_slower_stage": slower and rate / slower}


STAGES: dict[str, Callable[[Report, Sequence[Bench]], None]] = {
    "env": env,
    "slots": slots,
    "engine": engine,
    "decode": decode,
    "profile": profile,
    "e2e": e2e,
    "peers": peers,
    "tune": tuning,
}
