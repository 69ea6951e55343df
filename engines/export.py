"""A bundle as ONNX: uint8 NHWC in; logits, features and class evidence out; exported once."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from engines.errors import BackendMissingError
from engines.files import whole_file

if TYPE_CHECKING:
    from engines.bundle import ModelBundle

__all__ = ["GRAPH_VERSION", "OUTPUTS", "cache_folder", "onnx_from_bundle"]

GRAPH_VERSION = 1  # part of the cached file's name: raise it when the exported graph changes
EXAMPLE_BATCH = 2  # a batch of 1 would be baked into the graph
OUTPUTS = ("logits", "features", "evidence")

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where compiled models are kept: ``$SLIDESCREEN_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("SLIDESCREEN_CACHE") or platformdirs.user_cache_path("slidescreen"))


def onnx_from_bundle(bundle: ModelBundle) -> Path:
    """
    Return the bundle's ONNX file, exporting it if the cache has none.

    The file is named after the bundle's hash and appears whole or not at all, so two processes
    may race for it.
    """
    path = cache_folder() / "onnx" / f"{bundle.sha256}-{GRAPH_VERSION}.onnx"
    if not path.exists():
        log.info("exporting %s to ONNX, once", bundle.architecture)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as scratch:
                _export(bundle, scratch)
        except OSError as error:
            raise BackendMissingError(
                f"cannot keep the exported model in {path.parent}: {error.strerror}",
                hint="set SLIDESCREEN_CACHE to a folder that can be written",
            ) from error
    return path


def _export(bundle: ModelBundle, path: Path) -> None:
    """Write the serving graph with a dynamic batch; runtimes give it one static shape."""
    import torch

    from engines.network import serving_graph

    shape = (EXAMPLE_BATCH, bundle.input.height, bundle.input.width, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing for the user
        program = torch.onnx.export(
            serving_graph(bundle),
            (torch.zeros(shape, dtype=torch.uint8),),
            input_names=["pixels"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("cells")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path)
