"""What people would write: the same network in PyTorch, eager and compiled, and in TensorRT."""

from __future__ import annotations

import io
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from engines.models.serving_graph import network_from_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_bench import Bench
    from torch import Tensor, nn

__all__ = ["PEERS"]

WARM_UPS = 3


def eager(bench: Bench) -> dict[str, Any]:
    """PyTorch in half precision, channels last."""
    network, pixels = _half(bench)
    return {"cells_per_s": _rate(lambda: network(pixels), len(pixels), bench)}


def compiled(bench: Bench) -> dict[str, Any]:
    """The same compiled, as its documentation says for static shapes."""
    network, pixels = _half(bench)
    how: dict[str, Any] = (
        {"mode": "reduce-overhead"} if bench.scale.on_gpu else {"backend": "eager"}
    )
    faster = torch.compile(network, dynamic=False, **how)
    start = time.monotonic()
    with torch.inference_mode():
        faster(pixels)
    seconds = time.monotonic() - start
    rate = _rate(lambda: faster(pixels), len(pixels), bench)
    return {"cells_per_s": rate, "compiled_in_s": seconds}


def tensorrt(bench: Bench) -> dict[str, Any]:
    """TensorRT as its quick start has it: ONNX in, plan out, one stream, no CUDA graph."""
    if not bench.scale.on_gpu:
        return {"skipped": "there is no GPU"}
    try:
        trt = import_module("tensorrt")
    except ImportError:
        return {"skipped": "full TensorRT is not installed: pip install '.[tensorrt]'"}
    network, pixels = _half(bench)
    start = time.monotonic()
    plan = _plan(trt, network, pixels)
    seconds = time.monotonic() - start
    context = plan.create_execution_context()
    names = [plan.get_tensor_name(index) for index in range(plan.num_io_tensors)]
    output = torch.empty(
        tuple(plan.get_tensor_shape(names[1])), dtype=torch.half, device=pixels.device
    )
    pixels = pixels.contiguous()  # channels first, as ONNX means them
    for name, tensor in zip(names, (pixels, output), strict=True):
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.current_stream().cuda_stream
    rate = _rate(lambda: context.execute_async_v3(stream), len(pixels), bench)
    return {"cells_per_s": rate, "built_in_s": seconds, "version": trt.__version__}


def _plan(trt: Any, network: nn.Module, pixels: Tensor) -> Any:
    """Export, parse and build with everything as it comes."""
    file = io.BytesIO()
    torch.onnx.export(network, (pixels.contiguous(),), file, dynamo=False, opset_version=17)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    definition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(file.getvalue()):
        raise RuntimeError(parser.get_error(0).desc())
    built = builder.build_serialized_network(definition, builder.create_builder_config())
    return trt.Runtime(logger).deserialize_cuda_engine(built)


def _half(bench: Bench) -> tuple[nn.Module, Tensor]:
    """Return the network in half precision (on a GPU), and pixels, normalised already."""
    device = bench.scale.device
    dtype = torch.half if bench.scale.on_gpu else torch.float32
    network = network_from_bundle(bench.bundle).to(device, dtype)
    shape = (bench.scale.batch, 3, bench.size, bench.size)
    pixels = torch.randn(shape, device=device, dtype=dtype)
    return (
        network.to(memory_format=torch.channels_last),
        pixels.contiguous(memory_format=torch.channels_last),
    )


@torch.inference_mode()
def _rate(work: Callable[[], object], cells: int, bench: Bench) -> float:
    """Return cells/s after a warm-up, the device's queue empty at both ends."""
    for _ in range(WARM_UPS):
        work()
    _finish(bench)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < bench.scale.seconds:
        for _ in range(WARM_UPS):
            work()
            done += cells
        _finish(bench)
    return done / (time.perf_counter() - start)


def _finish(bench: Bench) -> None:
    """Wait for the device."""
    if bench.scale.on_gpu:
        torch.cuda.synchronize(bench.scale.device)


PEERS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "PyTorch, half, eager": eager,
    "PyTorch, half, torch.compile": compiled,
    "TensorRT, half": tensorrt,
}
