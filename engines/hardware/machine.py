"""The machine that this runs on: its processors, what it is called, what is installed on it."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from engines.hardware.gpu import Device, this_device
from engines.registry import recorded_packages

__all__ = [
    "Machine",
    "memory_of_machine",
    "package_versions",
    "peak_memory",
    "this_machine",
    "usable_cores",
]

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    Where something ran.

    Attributes:
        node: Its name in the network.
        system: The operating system with its version.
        cpu: The processor's name, as the system gives it.
        gpu: The GPU that torch would use; None if there is none.
    """

    node: str
    system: str
    cpu: str
    gpu: Device | None


def this_machine() -> Machine:
    """Ask the system and the GPU's driver."""
    return Machine(
        node=platform.node(), system=platform.platform(), cpu=_cpu_name(), gpu=this_device()
    )


def package_versions() -> dict[str, str | None]:
    """Return the version of every package that a score may depend on; None if it is absent."""
    return {name: _installed(name) for name in recorded_packages()}


def usable_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """Return the most bytes this process had in memory, with the largest of its children's."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else KIB
    asked = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * sum(resource.getrusage(who).ru_maxrss for who in asked)


def memory_of_machine() -> int | None:
    """Return how many bytes of memory there are, if the system tells."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    if not set(names) <= getattr(os, "sysconf_names", {}).keys():
        return None
    page, pages = map(os.sysconf, names)
    return page * pages


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
