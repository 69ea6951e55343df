"""TensorRT's messages and progress: what it logs as an error becomes one that a user can act on."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Any

from engines.errors import DeviceError, EngineBuildError
from engines.hardware.gpu import has_driver
from engines.registry import CPU, runtimes_on
from engines.tensorrt.versions import OTHER_RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engines.errors import UserError
    from engines.tensorrt.versions import Installed

__all__ = ["Phases", "error_from_messages", "errors_of", "logger_of", "progress_monitor"]

WITHOUT_GPU = runtimes_on(CPU)[0]
NO_GPU = r"cudaError 100|no CUDA-capable device|CUDA initialization failure with error: 100"
DRIVER = r"cudaError 35|driver version is insufficient|CUDA initialization failure with error: 35"
MEMORY = r"[Oo]ut ?[Oo]f ?[Mm]emory|cudaError 2\b|could not allocate|insufficient memory"
FAILED = r"illegal memory access|unspecified launch failure|misaligned address|uncorrectable ECC"
GPU = (
    r"[Cc]annot compile operation .* for|UNSUPPORTED_CC|is not supported by this TensorRT"
    r"|cannot run on this GPU|does not support this compute capability|incompatible device"
    r"|[Uu]nsupported (SM|compute capability|GPU)|compute capability .* (is )?not supported"
)

log = logging.getLogger(__name__)


@lru_cache
def logger_of(trt: Any) -> Any:
    """
    Return the one logger of a variant's module.

    TensorRT keeps the first logger it is given for the whole process, so there is one. What it
    logs goes to Python's logging; errors are kept besides, in ``errors``.
    """
    severity = trt.ILogger.Severity

    class PlanLogger(trt.ILogger):  # type: ignore[misc]
        """Keeps the errors, and hands everything on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, level: Any, message: str) -> None:
            """Take a message from any thread of TensorRT's."""
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.errors.append(message)
            log.debug("%s: %s", level.name.lower(), message)

    return PlanLogger()


@contextmanager
def errors_of(installed: Installed) -> Iterator[Any]:
    """Give the variant's logger; raise our error where TensorRT fails inside the block."""
    logger = logger_of(installed.trt)
    logger.errors.clear()
    try:
        yield logger
    except (RuntimeError, TypeError) as error:  # what pybind makes of a null pointer
        raise error_from_messages(installed, [*logger.errors, str(error)]) from error


def error_from_messages(installed: Installed, messages: list[str]) -> UserError:
    """
    Turn what TensorRT said into what happened and what to do.

    Returns:
        A DeviceError where the GPU failed or has too little memory, which says nothing against the
        engine; otherwise an EngineBuildError.
    """
    name, said = installed.variant.name, "; ".join(messages)
    known = (
        (DRIVER, _driver_fault(), _driver_hint(installed)),
        (NO_GPU, "there is no NVIDIA GPU here", f"use --runtime {WITHOUT_GPU}"),
        (GPU, "the GPU is not supported for this model", _gpu_hint(installed)),
    )
    if re.search(MEMORY, said):
        return DeviceError(
            f"{name} cannot build or load this plan: the GPU's memory is too small for this "
            f"({messages[0]})",
            hint="use a smaller --batch-size, or free the GPU",
        )
    if re.search(FAILED, said):
        return DeviceError(
            f"the GPU failed while {name} worked on it: {messages[0]}",
            hint=f"run the same command again; if it fails again, use --runtime {WITHOUT_GPU}",
        )
    for pattern, what, hint in known:
        if re.search(pattern, said) or (pattern is DRIVER and _without_driver(said)):
            return EngineBuildError(
                f"{name} cannot build or load this plan: {what} ({messages[0]})", hint=hint
            )
    return EngineBuildError(
        f"{name} cannot build or load this plan: {said}",
        hint=f"use --precision fp32, or --runtime {WITHOUT_GPU}",
    )


def _without_driver(said: str) -> bool:
    """Tell a CUDA error that has no number (TensorRT-RTX 1.4) where there is no driver at all."""
    return "Cuda Runtime" in said and not has_driver()


def _driver_fault() -> str:
    """CUDA says the same of a driver too old and of none; the difference matters."""
    return "the NVIDIA driver is too old" if has_driver() else "there is no NVIDIA driver"


def _driver_hint(installed: Installed) -> str:
    """Say how to get on without a driver, where that is possible."""
    if installed.variant.targets:
        return "install or update NVIDIA's driver, or build ahead of time with --for sm_89"
    return f"install or update NVIDIA's driver, or use --runtime {WITHOUT_GPU}"


def _gpu_hint(installed: Installed) -> str:
    """Say which GPUs it takes."""
    if installed.variant.targets:
        return f"it takes {', '.join(installed.variant.targets)}; others need another --runtime"
    return f"use --runtime {OTHER_RUNTIMES[0]}"


@contextmanager
def progress_monitor(trt: Any, progress: Callable[[float, str], None] | None) -> Iterator[Any]:
    """
    Give a monitor that turns nested phases into one share that only rises.

    What *progress* raises (an interrupt, too) stops the build and is raised when the block ends.
    """
    phases = Phases(progress or (lambda _share, _phase: None))
    yield _monitor_class(trt)(phases)
    if phases.raised is not None:
        raise phases.raised


@lru_cache
def _monitor_class(trt: Any) -> Any:
    """Derive a monitor from a variant's base class; it only hands on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from any thread of TensorRT's."""

        def __init__(self, phases: Phases) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phase_start = phases.start
            self.step_complete = phases.step
            self.phase_finish = phases.finish

    return Monitor


class Phases:
    """
    The phases of a build, nested, as one share from 0 to 1; safe to call from any thread.

    Attributes:
        raised: What the callback raised, if it did; an exception must not cross into TensorRT.
    """

    def __init__(self, progress: Callable[[float, str], None]) -> None:
        """Report to *progress*."""
        self.raised: BaseException | None = None
        self._progress = progress
        self._open: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = RLock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase, which is part of a step of its parent."""
        with self._lock:
            self._open[name] = _Phase(self._open.get(parent or ""), max(steps, 1))
            self._tell(name, self._open[name].share())

    def step(self, name: str, number: int) -> bool:
        """Move on by a step; False stops the build."""
        with self._lock:
            if name in self._open:
                self._open[name].done = number + 1
                self._tell(name, self._open[name].share())
            return self.raised is None

    def finish(self, name: str) -> None:
        """End a phase; the end of the outermost is the end."""
        with self._lock:
            phase = self._open.pop(name, None)
            if phase is not None:
                phase.done = phase.steps
                self._tell(name, phase.share())

    def _tell(self, name: str, share: float) -> None:
        """Report, never backwards."""
        self._share = max(self._share, share)
        try:
            if self.raised is None:
                self._progress(self._share, name)
        except BaseException as error:
            self.raised = error


class _Phase:
    """A phase of the build: so many steps, part of one step of its parent."""

    def __init__(self, parent: _Phase | None, steps: int) -> None:
        self.parent, self.steps, self.done = parent, steps, 0

    def share(self) -> float:
        """Return the share of the whole build that is done when this phase is where it is."""
        phase, share = self, min(self.done / self.steps, 1.0)
        while phase.parent is not None:
            phase = phase.parent
            share = min((phase.done + share) / phase.steps, 1.0)
        return share
