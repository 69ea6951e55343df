"""How long a run of many cells may take and what it may cost: arithmetic on measured constants."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Estimate", "Machines", "Stage", "estimate"]

# Measured on two cores of an AMD EPYC (benchmarks/README.md; crops of 450 x 450 pixels).
HOST_SECONDS = 363e-6  # a core's, per JPEG of 24 KB: read, hash, check, row, distances, Parquet
DECODE_SECONDS = 2.46e-3  # a core's, to decode and resize on the processor: 812 cells/s on two
CORE_CELLS_PER_SECOND = 110.0  # OpenVINO float32, middle 256 of 450 at 128 pixels: 223 on two
ROW_BYTES = 276.0  # of a part file of the shipped model's, 240 cells; without embeddings
PLAN_BYTES = 20.0
SHARD_CELLS = 16_384  # 64 batches of 256
PROCESS_CELLS_PER_SECOND = 7_500.0  # where Python's lock binds a process, however many cores it has

# Assumed: no GPU has been measured.
GPU_CELLS_PER_SECOND = 5_000.0

LIMITS = (
    "No GPU has been measured: --gpu-rate is assumed, a tenth of an H100's memory bound. Run",
    "20,000 of your cells on one: run.json says the rates of decoder, model and the whole.",
    "Stages overlap, so the slowest decides. Starting (a minute a worker; more where an engine is",
    "built), stragglers and retries come on top.",
    "A storage that answers few requests a second is slow with small files, whatever the network:",
    "pack them (slidescreen pack), and say --per-file.",
    "One process lists the cells: beyond some 100 million, use several results folders.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """
    What there is to run on.

    Attributes:
        gpus: How many GPUs; 0: the processors run the model.
        cores: Processor cores for each GPU; without GPUs, all of them.
        gpu_rate: Cells a GPU scores a second.
        gbits: Network to the cells, Gbit/s for each GPU; without GPUs, in all.
        price: Of an hour of a GPU with its cores, or of one core; any currency.
    """

    gpus: int
    cores: int
    gpu_rate: float = GPU_CELLS_PER_SECOND
    gbits: float = 2.0
    price: float = 0.0

    @property
    def units(self) -> int:
        """How many GPUs there are, or 1."""
        return max(1, self.gpus)


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that every cell goes through, and how many cells a second can, all in all."""

    name: str
    rate: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What a run comes to.

    Attributes:
        stages: The slowest first.
        seconds: At the rate of the slowest.
        read_bytes: What is read of the cells.
        result_bytes: What the tables take.
        requests: Reads asked of the storage.
        writes: Files written.
        price: Of the machines for that time.
    """

    stages: tuple[Stage, ...]
    seconds: float
    read_bytes: float
    result_bytes: float
    requests: float
    writes: float
    price: float


def estimate(cells: float, cell_bytes: float, per_file: float, machines: Machines) -> Estimate:
    """
    Work out a run.

    Args:
        cells: How many.
        cell_bytes: Of an encoded cell.
        per_file: Cells that one request to the storage brings: 1 for files of their own.
        machines: What runs it.
    """
    units, gpus = machines.units, machines.gpus
    host = HOST_SECONDS if gpus else HOST_SECONDS + DECODE_SECONDS + 1 / CORE_CELLS_PER_SECOND
    stages = [
        Stage("network", units * machines.gbits * 1e9 / 8 / cell_bytes),
        Stage("processors", units * machines.cores / host),
    ]
    if gpus:
        stages.append(Stage("GPUs", gpus * machines.gpu_rate))
        stages.append(Stage("Python, one process for each GPU", gpus * PROCESS_CELLS_PER_SECOND))
    stages.sort(key=lambda stage: stage.rate)
    seconds = cells / stages[0].rate
    paid = gpus or machines.cores
    return Estimate(
        stages=tuple(stages),
        seconds=seconds,
        read_bytes=cells * cell_bytes,
        result_bytes=cells * (ROW_BYTES + PLAN_BYTES),
        requests=cells / per_file,
        writes=2 * cells / SHARD_CELLS,
        price=paid * machines.price * seconds / 3600,
    )
