"""One training in several processes, one for each GPU, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from engines.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ALONE", "Processes", "joined"]

PATIENCE = timedelta(hours=1)  # how long the others wait while the first judges an epoch
APART = 7919  # between the seeds of processes


@dataclass(frozen=True, slots=True)
class Processes:
    """
    Which of how many processes this one is.

    Attributes:
        rank: From 0; the first one judges, saves, prints and writes the bundle.
        count: Of all on all machines.
        local_rank: On this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def device(self, device: str) -> str:
        """Return the GPU that is this process's, where *device* is any GPU."""
        return f"cuda:{self.local_rank}" if self.count > 1 and device == "cuda" else device

    def parallel(self, network: nn.Module) -> nn.Module:
        """Wrap a network so that gradients are averaged over all processes."""
        return nn.parallel.DistributedDataParallel(network) if self.count > 1 else network

    def share(self, batch_N: Tensor) -> Tensor:
        """Return this process's part of a batch; every cell is in exactly one."""
        return batch_N[self.rank :: self.count]

    def seeded(self, generator: torch.Generator) -> torch.Generator:
        """Let processes draw differently from here on; the first as if it were alone."""
        if self.rank:
            seed = generator.initial_seed() + APART * self.rank
            generator.manual_seed(seed)
            torch.manual_seed(seed)
        return generator

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a number over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value / self.count

    def from_first(self, make: Callable[[nn.Module], Any], network: nn.Module) -> Any:
        """Let the first process make something of a network, and give it to all."""
        if self.count == 1:
            return make(network)
        box = [make(network) if self.is_first else None]
        distributed.broadcast_object_list(box)
        return box[0]


ALONE = Processes()


@contextmanager
def joined(device: str, batch_size: int | None = None) -> Iterator[Processes]:
    """
    Join the other processes that ``torchrun`` has started, if it has; leave them in the end.

    Args:
        device: torch's name; ``cuda`` takes NCCL, anything else gloo.
        batch_size: Of all processes together.

    Raises:
        UserError: If the batch cannot be shared out evenly.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if batch_size is not None and batch_size % count:
        raise UserError(
            f"a batch of {batch_size} cells cannot be shared out evenly to {count} processes",
            hint=f"pass --batch-size {-(-batch_size // count) * count}",
        )
    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    processes = Processes(distributed.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        torch.cuda.set_device(processes.device(device))
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
