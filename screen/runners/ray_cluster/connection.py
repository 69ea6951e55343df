"""The Ray that a run uses, and how its workers share it."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engines.errors import BackendMissingError
from engines.hardware.device_choice import kind_of_device
from engines.hardware.machine import usable_cores
from engines.registry import CPU
from screen.runners.ray_cluster.crew import Needs, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from screen.options import RunOptions

__all__ = ["connected", "shares"]

STORE_BYTES = 100 * 2**20  # of a Ray of our own: it carries lists of cells, never pixels
SURROUNDINGS = {  # of a Ray of our own, as far as the user has not set them
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_worker_niceness": "0",  # workers are the run: not 15, as Ray would have it
}


@contextmanager
def connected(options: RunOptions) -> Iterator[Any]:
    """Connect to the cluster that is named, or start one on this machine for this run."""
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            "several workers need the package ray", hint="pip install 'slidescreen[ray]'"
        ) from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.ray is None:
        ray.init(
            num_cpus=usable_cores(),
            num_gpus=_gpus_here(options),
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    else:
        try:
            ray.init(address=options.ray, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BackendMissingError(
                f"there is no Ray at {options.ray}: {in_words(error)}",
                hint="name a head node as HOST:PORT, or auto for the cluster of this machine",
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _gpus_here(options: RunOptions) -> int:
    """Count the GPUs of this machine that workers may use."""
    import torch

    return 0 if kind_of_device(options.device) == CPU else torch.cuda.device_count()


def shares(ray: Any, options: RunOptions) -> Needs:
    """Divide the cluster: a GPU and its share of the processors each, or processors alone."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.get("GPU")]
    if with_gpus and kind_of_device(options.device) != CPU:
        cpus = min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpus)
        count = options.workers or int(sum(node["GPU"] for node in with_gpus))
        return Needs(count, max(1, cpus), 1)
    sizes = [int(node["CPU"]) for node in nodes if node.get("CPU")]
    count = options.workers or len(sizes) or 1
    return Needs(count, _processors_each(sizes, count), 0)


def _processors_each(sizes: Sequence[int], count: int) -> int:
    """Return the most processors that each of *count* workers can have on nodes of these sizes."""
    equal_shares = range(sum(sizes) // count, 0, -1)
    return next((n for n in equal_shares if sum(size // n for size in sizes) >= count), 1)
