"""The machine that this runs on: its processors, what it is called, what is installed on it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines.hardware.gpu import this_device
from engines.registry import recorded_packages

__all__ = ["machine", "usable_cores"]


def usable_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """
    Describe the machine and what is installed on it: a result and its parity hold for these.

    Returns:
        ``machine``: ``node``, ``system``, ``cpu`` and ``gpu`` (None where there is none);
        ``versions``: by package, None where it is not installed.
    """
    gpu = this_device()
    return {
        "machine": {
            "node": platform.node(),
            "system": platform.platform(),
            "cpu": _cpu_name(),
            "gpu": asdict(gpu) if gpu else None,
        },
        "versions": {name: _installed(name) for name in recorded_packages()},
    }


def _installed(package: str) -> str | None:
    """Return a package's version, if it is installed."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
