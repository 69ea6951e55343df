"""TensorRT's runtime as far as ours uses it, on the processor: its contexts run PyTorch."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from engines.models.serving_graph import serving_graph
from engines.tensorrt.builder import DEFAULT_LEVEL
from engines.tensorrt.versions import VARIANTS, Installed

GOOD, BAD, FULL = b"a plan", b"not a plan", b"a plan too large for this GPU"
TYPES = {"logits": "FLOAT", "features": "HALF", "evidence": "HALF"}


class Logger:
    """A logger to derive from."""

    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)


def installed(bundle, precision):
    """Return a variant whose plans compute what *bundle* means."""
    graph = serving_graph(bundle, precision=precision)

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            if plan == FULL:
                raise RuntimeError("Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return Engine(graph) if plan == GOOD else None

    trt = SimpleNamespace(
        Runtime=Runtime,
        ILogger=Logger,
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="ours"),
    )
    variant = next(variant for variant in VARIANTS if variant.name == "tensorrt-rtx")
    return Installed(variant, Hashable(trt), "1.2.3")


class Hashable:
    """Gives a namespace an identity, as a module has."""

    def __init__(self, namespace):
        """Take its names."""
        self.__dict__.update(vars(namespace))


def engine(folder, plan=GOOD, targets=()):
    """Return what the cache would: something with a plan on disk."""
    path = Path(folder) / "engine.plan"
    path.write_bytes(plan)
    key = SimpleNamespace(targets=targets, level=DEFAULT_LEVEL, aux_streams=None)
    return SimpleNamespace(path=path, key=key, record={"keep_fp32": ["stem"]})


class Engine:
    """A deserialised plan."""

    def __init__(self, graph):
        """Hold the network."""
        self.graph = graph

    def create_runtime_config(self):
        """Give settings to fill in."""
        return Config()

    def create_execution_context(self, config):
        """Give a context of its own; refuse kernels that would change behind one's back."""
        assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        assert config.allocation == "ours"
        config.cache.compiled()
        return Context(self.graph)

    num_io_tensors = 1 + len(TYPES)

    def get_tensor_name(self, number):
        """Name an input or output."""
        return ("pixels", *TYPES)[number]

    def get_tensor_dtype(self, name):
        """Name an output's type."""
        return SimpleNamespace(name=TYPES[name])


class Config:
    """Settings of a context."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"
    allocation = "static"
    cache = None

    def set_execution_context_allocation_strategy(self, strategy):
        """Take it."""
        self.allocation = strategy

    def create_runtime_cache(self):
        """Give an empty cache."""
        return Cache()

    def set_runtime_cache(self, cache):
        """Take it."""
        self.cache = cache
        return True


class Cache:
    """Compiled kernels: of one kind only, and only of this GPU."""

    KERNELS = b"kernels of this GPU"
    count = 0  # how often any cache has compiled

    def __init__(self):
        """Hold nothing."""
        self.content = b""

    def deserialize(self, blob):
        """Take what is of this GPU."""
        if blob != self.KERNELS:
            return False
        self.content = blob
        return True

    def serialize(self):
        """Give what there is."""
        return self.content

    def compiled(self):
        """Compile, unless that has been done."""
        if not self.content:
            Cache.count += 1
            self.content = self.KERNELS


class Context:
    """Reads and writes the addresses that it is given, and knows nothing else of the caller."""

    def __init__(self, graph):
        """Hold the network."""
        self.graph = graph
        self.addresses = {}
        self.shape = None
        self.memory = None

    def update_device_memory_size_for_shapes(self):
        """Say how much it needs, which depends on the shape."""
        return int(np.prod(self.shape))

    def set_device_memory(self, address, size):
        """Take memory, enough of it."""
        assert size >= int(np.prod(self.shape))
        self.memory = address

    def is_stream_capturable(self, handle):  # noqa: ARG002  as TensorRT calls it
        """Say that it is."""
        return self.capturable

    capturable = True

    def set_input_shape(self, name, shape):
        """Take the shape."""
        self.shape = shape
        return name == "pixels"

    def get_tensor_shape(self, name):
        """Work an output's shape out."""
        assert self.shape is not None
        outputs = self.graph(torch.zeros(self.shape, dtype=torch.uint8))
        return dict(zip(TYPES, outputs, strict=True))[name].shape

    def set_tensor_address(self, name, address):
        """Note where a tensor lies."""
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle):
        """Run at once; refuse any stream but none."""
        assert self.memory
        size = int(np.prod(self.shape))
        raw = (ctypes.c_uint8 * size).from_address(self.addresses["pixels"])
        pixels = torch.frombuffer(raw, dtype=torch.uint8).view(self.shape)
        for name, output in zip(TYPES, self.graph(pixels), strict=True):
            dense = output.detach().contiguous()
            ctypes.memmove(
                self.addresses[name], dense.data_ptr(), dense.numel() * dense.element_size()
            )
        return handle == 0
