"""A bundle as an ONNX file for other engines, and a README of its inputs and outputs."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from engines.errors import BundleError
from engines.files import sha256_of_file, whole_file
from engines.models.onnx_export import GRAPH_VERSION, OUTPUTS, TYPES_KEY, onnx_from_bundle

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from engines.models.bundle import ModelBundle

__all__ = ["readme_beside", "write_onnx"]

HEADING = "# ONNX model written by slidescreen"
FITS = {"squash": "squashed", "pad": "its shape kept, padded with black and brought"}
EVIDENCE = (
    "| `evidence` | float16 | (N, C, h, w) | class activation maps: the mean over h and w plus the "
    "classifier's bias is the logit |\n"
)
README = """\
{heading}

For research only. Not a medical device; not for diagnosis.

`{name}` (SHA-256 `{sha256}`) is the graph that slidescreen runs: {architecture}, bundle
`{bundle}`, graph version {version}, in {precision}.
Casting, scaling, normalisation and layout are part of it.

## Input

| name | type | shape | what |
| --- | --- | --- | --- |
| `pixels` | uint8 | (N, {height}, {width}, 3) | RGB; N is any number |

Of each crop the middle {crop_pct:g} of its sides is taken, {fit} to {width} x {height} with an
antialiased {filter} filter; EXIF orientation is applied, alpha dropped. Nothing else is done to
the pixels: they are neither scaled to 0..1 nor normalised.

## Outputs

| name | type | shape | what |
| --- | --- | --- | --- |
| `logits` | float32 | (N, C) | before softmax, in the order of the classes below |
| `features` | float16 | (N, F) | the pooled vector, as in `run --embeddings` |
{evidence}
Classes, in this order: {classes}.

Calibrated probabilities are `softmax(logits / {temperature!r})`.{called}

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{name}")
pixels = np.zeros((1, {height}, {width}, 3), np.uint8)
logits = session.run(["logits"], {{"pixels": pixels}})[0]
```
"""


def readme_beside(path: Path) -> Path:
    """Return where the README of an ONNX file goes: ``model.onnx`` has ``model.README.md``."""
    return path.with_suffix(".README.md")


def write_onnx(
    bundle: ModelBundle,
    path: Path,
    *,
    precision: str = "fp32",
    keep_fp32: Collection[str] = (),
    force: bool = False,
) -> Path:
    """
    Write the serving graph and, beside it, its README; return where the README is.

    Args:
        bundle: The model.
        path: An ONNX file; one that this function wrote is replaced.
        precision: What the network computes in; its input and head are float32 in any case.
        keep_fp32: Modules that stay in float32 in half precision.
        force: Whether to replace files of others, too.

    Raises:
        BundleError: If *path* does not end in ``.onnx``, is somebody else's, or cannot be written.
    """
    if path.suffix != ".onnx":
        raise BundleError(f"{path} does not end in .onnx", hint=f"name it {path.stem}.onnx")
    readme = readme_beside(path)
    for file, ours in ((path, _is_our_onnx), (readme, _is_our_readme)):
        if os.path.lexists(file) and not force and not (file.is_file() and ours(file)):
            raise BundleError(
                f"{file} was not written by slidescreen: it is left alone",
                hint="name another file, or pass --force to replace it",
            )
    exported = onnx_from_bundle(bundle, precision=precision, keep_fp32=keep_fp32)
    try:
        with whole_file(path) as scratch:
            shutil.copyfile(exported, scratch)
        with whole_file(readme) as scratch:
            scratch.write_text(_readme(bundle, path, precision, keep_fp32), encoding="utf-8")
    except OSError as error:
        raise BundleError(
            f"cannot write {path}: {error.strerror}", hint="see to space and permissions"
        ) from error
    return readme


def _is_our_onnx(path: Path) -> bool:
    """Whether an ONNX file carries the mark of an export."""
    return TYPES_KEY.encode() in path.read_bytes()


def _is_our_readme(path: Path) -> bool:
    """Whether a README begins as ours do."""
    with path.open("rb") as file:
        return file.read(len(HEADING)) == HEADING.encode()


def _readme(bundle: ModelBundle, path: Path, precision: str, keep_fp32: Collection[str]) -> str:
    """Say what goes in, what comes out, and what it means."""
    kept = f"; in float32 besides: {', '.join(sorted(keep_fp32))}" if keep_fp32 else ""
    called = (
        f" A cell is called `{bundle.positive}` where that probability is at least "
        f"{bundle.threshold!r}."
        if bundle.positive
        else ""
    )
    return README.format(
        heading=HEADING,
        name=path.name,
        sha256=sha256_of_file(path),
        architecture=bundle.architecture,
        bundle=bundle.sha256,
        version=GRAPH_VERSION,
        precision=f"{precision}{kept}",
        height=bundle.input.height,
        width=bundle.input.width,
        crop_pct=bundle.input.crop_pct,
        fit=FITS[bundle.input.fit],
        filter=bundle.input.filter,
        evidence=EVIDENCE if _with_evidence(path) else "",
        classes=", ".join(bundle.classes),
        temperature=bundle.temperature,
        called=called,
    )


def _with_evidence(path: Path) -> bool:
    """Whether an ONNX file has the last of the outputs that a graph may have."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return OUTPUTS[-1] in {output.name for output in graph.output}
