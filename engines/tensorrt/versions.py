"""The ways TensorRT comes: what differs between them is one table; everything else is one path."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engines.errors import BackendMissingError
from engines.registry import Choice, runtime_names

if TYPE_CHECKING:
    from engines.hardware.gpu import Device

__all__ = [
    "OTHER_RUNTIMES",
    "VARIANTS",
    "VARIANT_NAMES",
    "Installed",
    "Variant",
    "choose_variant",
    "installed_variants",
    "open_variant",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """
    A package that builds and runs plans, in a range of versions that behave alike.

    Attributes:
        name: As asked for with ``--runtime``.
        module: What is imported.
        extra: Of slidescreen's own package: it brings this one along.
        first: The first version of the range, inclusive.
        below: The end of the range, exclusive.
        typing_flag: Whether a strongly typed network has to be asked for.
        timing_cache: Whether timings are worth keeping.
        targets: The GPUs it builds for with no GPU at hand, as ``sm_86``; none if it cannot.
        compiles_on_device: Whether kernels are compiled when a plan is opened. There is nothing to
            inspect before, so the parsed network's types have to do; the kernels are kept in a
            cache; and plans are built so that all memory is ours, or none could be captured as a
            CUDA graph.
    """

    name: str
    module: str
    extra: str
    first: tuple[int, int]
    below: tuple[int, int]
    typing_flag: bool = False
    timing_cache: bool = True
    targets: tuple[str, ...] = ()
    compiles_on_device: bool = False


VARIANTS = (
    Variant(
        name="tensorrt",
        module="tensorrt",
        extra="tensorrt",
        first=(10, 12),
        below=(11, 0),
        typing_flag=True,
    ),
    Variant(name="tensorrt", module="tensorrt", extra="tensorrt", first=(11, 0), below=(12, 0)),
    Variant(
        name="tensorrt-rtx",
        module="tensorrt_rtx",
        extra="rtx",
        first=(1, 4),
        below=(1, 7),
        timing_cache=False,
        targets=("sm_80", "sm_86", "sm_89", "sm_120"),
        compiles_on_device=True,
    ),
    Variant(
        name="tensorrt-rtx",
        module="tensorrt_rtx",
        extra="rtx",
        first=(1, 7),
        below=(2, 0),
        timing_cache=False,  # deprecated there: its operations do nothing
        targets=("sm_80", "sm_86", "sm_89", "sm_120", "sm_121"),  # on sm_75, no float32 products
        compiles_on_device=True,
    ),
)
VARIANT_NAMES = tuple(dict.fromkeys(variant.name for variant in VARIANTS))
OTHER_RUNTIMES = tuple(name for name in runtime_names() if name not in VARIANT_NAMES)


@dataclass(frozen=True, slots=True)
class Installed:
    """A variant that is here: its row of the table, its module, its version."""

    variant: Variant
    trt: Any
    version: str


def open_variant(name: str) -> Installed:
    """
    Import a variant.

    Raises:
        BackendMissingError: If its package is absent, does not load, or has a version that is in
            no row of the table.
    """
    rows = [variant for variant in VARIANTS if variant.name == name]
    if not rows:
        raise BackendMissingError(
            f"there is no variant {name!r} of TensorRT", hint=f"choose {' or '.join(VARIANT_NAMES)}"
        )
    hint = f"pip install slidescreen[{rows[0].extra}]"
    if find_spec(rows[0].module) is None:
        raise BackendMissingError(f"{name} needs the package {rows[0].module}", hint=hint)
    try:
        trt = import_module(rows[0].module)
        version = str(trt.__version__)
        number = tuple(int(part) for part in version.split(".")[:2])
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise BackendMissingError(
            f"the package {rows[0].module} does not load: {error}", hint=hint
        ) from error
    for row in rows:
        if row.first <= number < row.below:
            return Installed(row, trt, version)
    lowest, highest = rows[0].first, rows[-1].below
    raise BackendMissingError(
        f"{rows[0].module} {version} is not supported:"
        f" at least {lowest[0]}.{lowest[1]} and below {highest[0]} is",
        hint=hint,
    )


def installed_variants() -> list[Installed]:
    """Return the variants that load here, in the order of preference."""
    found = []
    for name in VARIANT_NAMES:
        try:
            found.append(open_variant(name))
        except BackendMissingError:
            continue
    return found


def choose_variant(
    asked: str = "auto", device: Device | None = None, *, ahead_of_time: bool = False
) -> Choice[Installed]:
    """
    Pick a variant for this GPU, or one that builds without.

    Args:
        asked: A variant's name, or ``auto``.
        device: The GPU at hand, if there is one.
        ahead_of_time: Whether the plan is for other GPUs than this.

    Raises:
        BackendMissingError: If the one asked for is absent, or none of those here will do.
    """
    if asked != "auto":
        return Choice(open_variant(asked), "asked for")
    for here in installed_variants():
        if device is None or ahead_of_time:
            if here.variant.targets:
                return Choice(here, "it builds ahead of time")
        elif not here.variant.targets or device.target in here.variant.targets:
            return Choice(here, f"it is installed and takes {device.target}")
    raise _none_fits(device, ahead_of_time=ahead_of_time)


def _none_fits(device: Device | None, *, ahead_of_time: bool) -> BackendMissingError:
    """Say which package would do."""
    if device is None or ahead_of_time:
        return BackendMissingError(
            "building an engine without its GPU needs the package tensorrt_rtx",
            hint=f"pip install slidescreen[{VARIANTS[-1].extra}]",
        )
    return BackendMissingError(
        f"no variant of TensorRT that takes this GPU ({device.name}, {device.target}) is installed",
        hint=f"pip install slidescreen[{VARIANTS[0].extra}]",
    )
