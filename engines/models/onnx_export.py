"""A bundle as ONNX: uint8 NHWC in; logits, features and class evidence out; exported once."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

from engines.errors import BackendMissingError
from engines.files import cache_folder, sha256_of_file, whole_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from engines.models.bundle import ModelBundle

__all__ = ["GRAPH_VERSION", "OUTPUTS", "TYPES_KEY", "onnx_from_bundle"]

GRAPH_VERSION = 5  # part of the cached file's name: raise it when the exported graph changes
EXAMPLE_BATCH = 2  # a batch of 1 would be baked into the graph
OUTPUTS = ("logits", "features", "evidence")  # the last where the model's head has any
TYPES_KEY = "slidescreen.types"  # metadata: precision, and convolutions by type, in JSON

log = logging.getLogger(__name__)


def onnx_from_bundle(
    bundle: ModelBundle, *, precision: str = "fp32", keep_fp32: Collection[str] = ()
) -> Path:
    """
    Return the bundle's ONNX file, exporting it if the cache has none that is what it was.

    Types travel in the file: see ``engines.models.serving_graph``. It is named after the
    bundle's hash and the types and appears whole or not at all, so two processes may race for it.
    Its own hash stands in a file beside it, as ``sha256sum`` writes it, and is checked each time.
    """
    path = cache_folder() / "onnx" / f"{_name(bundle, precision, keep_fp32)}.onnx"
    if not _as_written(path):
        types = "" if precision == "fp32" else f" in {precision}"
        log.info("exporting %s to ONNX%s, once", bundle.architecture, types)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as scratch:
                _export(bundle, scratch, precision, keep_fp32)
                line = _hash_line(scratch, path.name)
            with whole_file(_hash_file(path)) as scratch:
                scratch.write_text(line, encoding="utf-8")
        except OSError as error:
            raise BackendMissingError(
                f"cannot keep the exported model in {path.parent}: {error.strerror}",
                hint="set SLIDESCREEN_CACHE to a folder that can be written",
            ) from error
    return path


def _as_written(path: Path) -> bool:
    """Whether a cached file is there, and byte for byte what was written under this name."""
    if not path.exists():
        return False
    try:
        if _hash_line(path, path.name).encode() == _hash_file(path).read_bytes():
            return True
    except OSError as error:
        log.warning("cannot read the cached model: %s", error)
    log.warning("the cached model %s is damaged or was swapped; it is exported anew", path)
    return False


def _hash_file(path: Path) -> Path:
    """Name the file that keeps the hash of a cached one."""
    return path.with_suffix(".onnx.sha256")


def _hash_line(path: Path, name: str) -> str:
    """Return a file's SHA-256 and the name that it is kept under, so that a pair is no other's."""
    return f"{sha256_of_file(path)}  {name}\n"


def _name(bundle: ModelBundle, precision: str, keep_fp32: Collection[str]) -> str:
    """Name a file after everything that makes it."""
    name = f"{bundle.sha256}-{GRAPH_VERSION}"
    if precision != "fp32":
        name += f"-{precision}"
    if keep_fp32:
        name += "-" + hashlib.sha256("\n".join(sorted(keep_fp32)).encode()).hexdigest()[:16]
    return name


def _export(bundle: ModelBundle, path: Path, precision: str, keep_fp32: Collection[str]) -> None:
    """Write the serving graph with a dynamic batch; runtimes give it one static shape."""
    import torch

    from engines.models.serving_graph import convolution_types, serving_graph

    graph = serving_graph(bundle, precision=precision, keep_fp32=keep_fp32)
    shape = (EXAMPLE_BATCH, bundle.input.height, bundle.input.width, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing for the user
        program = torch.onnx.export(
            graph,
            (torch.zeros(shape, dtype=torch.uint8),),
            input_names=["pixels"],
            output_names=list(OUTPUTS if graph.head.places else OUTPUTS[:2]),
            dynamic_shapes=({0: torch.export.Dim("cells")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _strip(program.model)
    types = {"precision": precision, "convolutions": convolution_types(graph)}
    program.model.metadata_props[TYPES_KEY] = json.dumps(types, sort_keys=True)
    program.save(path)


def _strip(model: Any) -> None:
    """Remove the exporter's notes: they name files of this machine, and the file is hashed."""
    for part in (model, model.graph, *model.graph.all_nodes()):
        part.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
