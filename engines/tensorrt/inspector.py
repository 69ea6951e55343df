"""A plan read back from a GPU: what its layers really compute in."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from engines.errors import EngineBuildError
from engines.tensorrt.logger import errors_of

if TYPE_CHECKING:
    from engines.tensorrt.versions import Installed

__all__ = ["check_inspected", "inspected_types", "loaded_plan", "malformed", "types_from_report"]

FORMATS = {
    "bf16": re.compile(r"bf16|bfloat", re.IGNORECASE),
    "fp16": re.compile(r"fp16|half", re.IGNORECASE),
    "fp32": re.compile(r"fp32|float", re.IGNORECASE),
}
CONVOLUTION = re.compile(r"conv", re.IGNORECASE)


def inspected_types(installed: Installed, plan: bytes) -> dict[str, dict[str, int]]:
    """
    Load a plan on the GPU at hand and count its layers and convolutions by precision.

    Raises:
        EngineBuildError: If it does not load.
    """
    trt = installed.trt
    with errors_of(installed) as logger:
        engine = loaded_plan(trt, logger, plan)
        inspector = engine.create_engine_inspector()
        report = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return types_from_report(report)


def loaded_plan(trt: Any, logger: Any, plan: bytes) -> Any:
    """Deserialise a plan; a RuntimeError, for ``errors_of`` to explain, if it does not load."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeError("the plan does not load")
    return engine


def malformed(installed: Installed, plan: bytes) -> bool:
    """Tell whether a variant that can judge a plan without its GPU finds it no plan at all."""
    trt = installed.trt
    with errors_of(installed) as logger:
        judge = getattr(trt.Runtime(logger), "get_engine_validity", None)
        if judge is None:
            return False
        _, diagnostics = judge(plan)
        return bool(int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE))


def types_from_report(report: str) -> dict[str, dict[str, int]]:
    """
    Count layers and convolutions of an inspector's JSON by precision.

    A layer's precision is the narrowest of the types it reads: a convolution that reads half
    computes in half, whatever a cast fused behind it gives. Layers without types (a variant that
    compiles on the device reports none) are not counted.
    """
    layers: Counter[str] = Counter()
    convolutions: Counter[str] = Counter()
    for layer in json.loads(report).get("Layers", []):
        precision = _precision(layer) if isinstance(layer, dict) else None
        if precision is None:
            continue
        layers[precision] += 1
        if CONVOLUTION.search(f"{layer.get('LayerType')} {layer.get('ParameterType')}"):
            convolutions[precision] += 1
    return {"convolutions": dict(convolutions), "layers": dict(layers)}


def check_inspected(found: dict[str, dict[str, int]], expected: dict[str, int]) -> None:
    """
    Refuse a plan with more float32 convolutions than were exported, or none whose type is known.

    Raises:
        EngineBuildError: With both counts.
    """
    if not sum(found["convolutions"].values()):
        raise EngineBuildError(
            f"TensorRT's inspector gives no type of any of {sum(expected.values())} convolutions, "
            "so nobody can tell whether the plan computes in what was asked for",
            hint="use another --runtime, and report this as a bug of slidescreen",
        )
    wide, allowed = found["convolutions"].get("fp32", 0), expected.get("fp32", 0)
    if wide > allowed:
        raise EngineBuildError(
            f"the plan computes {wide} convolutions in float32, {allowed} were exported so",
            hint="use --precision fp32, and report this as a bug of slidescreen",
        )


def _precision(layer: dict[str, Any]) -> str | None:
    """Return the narrowest type that a layer reads, or else gives."""
    for tensors in (layer.get("Inputs"), layer.get("Outputs")):
        said = " ".join(str(tensor.get("Format/Datatype", "")) for tensor in tensors or [])
        for name, pattern in FORMATS.items():
            if pattern.search(said):
                return name
    return None
