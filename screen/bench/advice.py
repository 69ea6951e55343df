"""What would make a run faster, by what limits it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screen.bench.measure import Bench

__all__ = ["advice"]

MUCH_MEMORY = 0.8  # of the machine's
BUSY = 0.5  # processes that want a core, by cores, from which on measurements are doubtful
HINDERED = 0.7  # of what the stages could reach together
MOST_NOT_READ = 0.1  # of the cells

ENGINE = (
    "the network limits. A GPU, more cores, or a smaller model or input (slidescreen-train fit "
    "--img-size) would help"
)
ENGINE_ON_GPU = (
    "the network limits. slidescreen engine build --tune finds the fastest batch and settings "
    "for this GPU"
)
DECODE = "decoding limits. More --threads and more cores help; JPEG decodes faster than PNG or TIFF"
READ = (
    "reading limits. Copy the cells to a disk of this machine, or put them into fewer, larger files"
)
WRITE = "writing limits. Choose --out on a disk of this machine"
FLOAT32 = "it computes in float32, the slowest type: {reason}"


def advice(found: Bench) -> list[str]:
    """Return sentences for a person, the most important first."""
    return [*_doubts(found), *_on_the_limit(found), *_on_the_rest(found)]


def _doubts(found: Bench) -> Iterator[str]:
    """Say why the numbers may be too low."""
    if found.load is not None and found.load > BUSY * found.cores:
        yield (
            f"other processes are at work ({found.load:.1f} wanted {found.cores} cores in the "
            "minute before): a quiet machine does more than is measured here"
        )
    counts = found.record.counts
    if counts is not None and counts.bad > MOST_NOT_READ * counts.cells:
        yield f"{counts.bad} of {counts.cells} cells could not be scored, which flatters the rates"


def _on_the_limit(found: Bench) -> Iterator[str]:
    """Say what would help the slowest stage."""
    choices = found.record.choices
    if found.limit == "engine":
        yield ENGINE if found.shared_cores else ENGINE_ON_GPU
        if choices.precision.value == "fp32":
            yield FLOAT32.format(reason=choices.precision.reason)
    elif found.limit == "decode":
        yield DECODE
        if choices.threads.value < found.cores:
            yield f"only {choices.threads.value} of {found.cores} cores decode: raise --threads"
    elif found.limit in ("read", "write"):
        yield READ if found.limit == "read" else WRITE


def _on_the_rest(found: Bench) -> Iterator[str]:
    """Say what else stands in the way."""
    together, best = found.record.rates.end_to_end, found.at_best
    if together and best and together < HINDERED * best:
        yield (
            f"all together it does {together / best:.0%} of what the stages could: too few cells "
            "were measured, or something else takes cores (--count 2000 tells)"
        )
    if found.peak and found.memory and found.peak > MUCH_MEMORY * found.memory:
        yield "memory is nearly full: fewer --threads or a smaller --batch-size take less"
