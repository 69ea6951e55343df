"""The commands about engines; with the other cli modules, what prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from engines.command import DONE, MENDABLE, say
from engines.models.bundle import DEFAULT_BUNDLE
from engines.registry import AUTO
from engines.runtime.base import GPU_BATCH, PRECISIONS
from engines.tensorrt.versions import VARIANT_NAMES

__all__ = ["engine"]

KEY = click.argument("key")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
CELLS = click.Path(file_okay=False, path_type=Path)


@click.group()
def engine() -> None:
    """
    Build TensorRT engines, look after those that are kept, and export models for others.

    A run on a GPU builds what it needs by itself. KEY is the beginning of an engine's key.

    \b
    Example:
      slidescreen engine build --precision fp16 --batch-size 256 --for sm_89 --cells cells
      slidescreen engine list
    """


@engine.command()
@click.argument("bundle", type=click.Path(path_type=Path), default=DEFAULT_BUNDLE)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    show_default=True,
    help="What the network computes in; its input and head are float32 in any case.",
)
@click.option(
    "--batch-size",
    "batch",
    type=click.IntRange(1, 4096),
    show_default=f"{GPU_BATCH}; with --tune, the fastest of 16 to 512",
    help="Cells per inference: the one batch size that the engine takes.",
)
@click.option(
    "--runtime",
    "variant",
    type=click.Choice([AUTO, *VARIANT_NAMES]),
    default="auto",
    show_default=True,
    help="Which package builds.",
)
@click.option(
    "--for",
    "targets",
    metavar="SM,...",
    help="Build ahead of time for these GPUs, such as sm_86,sm_89,sm_120; needs no GPU.",
)
@click.option(
    "--cells",
    type=CELLS,
    help="Real cells, to find what half precision has to leave to float32.",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Build several engines, measure each on this GPU and keep the fastest: takes up to an "
    "hour. Later runs on this GPU take it, and its batch size.",
)
def build(
    bundle: Path,
    targets: str | None,
    cells: Path | None,
    *,
    batch: int | None,
    tune: bool,
    **options: Any,
) -> int:
    """
    Build an engine of BUNDLE (by default the model that ships), or take it from the cache.

    \b
    Example:
      slidescreen engine build --precision fp16 --batch-size 256
      slidescreen engine build my-model --for sm_86,sm_89,sm_120 --cells cells
      slidescreen engine build --tune
    """
    from engines.models.bundle import ModelBundle
    from engines.tensorrt.engine_cache import EngineOptions, engine_for
    from engines.tensorrt.tuning import BATCHES
    from screen.cli.progress import show_building, show_logs
    from screen.cli.tables import engine_line
    from screen.engine_tune import tuned_engine
    from screen.engine_verify import exceptions_from
    from screen.runners.building import building_events

    if tune and targets:
        raise click.UsageError("--tune measures on the GPU at hand, and --for is for others.")
    model = ModelBundle.load(bundle)
    asked = tuple(filter(None, (targets or "").replace(" ", "").split(",")))
    console = Console(stderr=True)
    wanted = EngineOptions(targets=asked, batch=batch or GPU_BATCH, **options)
    batches = (batch,) if batch else BATCHES
    with show_logs(console, quiet=False):
        if cells is not None:
            exceptions_from(cells, model, options["precision"])
        events = building_events(
            lambda progress: (
                tuned_engine(model, wanted, batches=batches, progress=progress)
                if tune
                else engine_for(model, wanted, progress=progress)
            )
        )
        made = show_building(events, console)
    click.echo(made.key.digest)
    say(engine_line(made))
    return DONE


@engine.command()
@click.argument("bundle", type=click.Path(path_type=Path), default=DEFAULT_BUNDLE)
@click.option(
    "--onnx",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write; its README goes beside it.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="What the network computes in; its input and head are float32 in any case.",
)
@click.option("--force", is_flag=True, help="Replace files that slidescreen did not write, too.")
def export(bundle: Path, path: Path, precision: str, *, force: bool) -> int:
    """
    Write the graph of BUNDLE (by default the model that ships) as ONNX, for other engines.

    \b
    Example:
      slidescreen engine export --onnx model.onnx
    """
    from engines.mixed_precision.policy import kept_in_fp32
    from engines.models.bundle import ModelBundle
    from engines.models.onnx_package import write_onnx
    from screen.cli.progress import show_logs

    model = ModelBundle.load(bundle)
    with show_logs(Console(stderr=True), quiet=False):
        kept = kept_in_fp32(model, precision)
        readme = write_onnx(model, path, precision=precision, keep_fp32=kept, force=force)
    say(f"{path}, and what goes in and out in {readme}")
    return DONE


@engine.command(name="list")
@AS_JSON
def list_command(*, as_json: bool) -> int:
    """
    List the engines that are kept, the newest first.

    \b
    Example:
      slidescreen engine list
    """
    from engines.tensorrt.engine_store import list_engines
    from screen.cli.tables import as_json as record_of
    from screen.cli.tables import list_table

    found = list_engines()
    if as_json:
        click.echo(json.dumps([record_of(one) for one in found]))
        return DONE
    Console().print(list_table(found))
    return DONE


@engine.command()
@KEY
@AS_JSON
def show(key: str, *, as_json: bool) -> int:
    """
    Show the record of the engine KEY: what it was built from, its types, what is kept in float32.

    \b
    Example:
      slidescreen engine show 4b5e5ef5
    """
    from engines.tensorrt.engine_store import find_engine
    from screen.cli.tables import as_json as record_of
    from screen.cli.tables import record_table

    found = find_engine(key)
    if as_json:
        click.echo(json.dumps(record_of(found)))
        return DONE
    Console().print(record_table(found))
    return DONE


@engine.command()
@KEY
@click.option("--cells", type=CELLS, required=True, help="A folder of real cells.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=DEFAULT_BUNDLE,
    show_default="the one that ships",
    help="The bundle that it was built from.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Cells to check on, spread over the folder.",
)
def verify(key: str, cells: Path, model: Path, count: int) -> int:
    """
    Hold the engine KEY against FP32 PyTorch on real cells.

    With no GPU that can run it, its plan, its types and its arithmetic (by PyTorch with the same
    casts) are checked, and what could not be is said. Exits 1 if anything failed.

    \b
    Example:
      slidescreen engine verify 4b5e5ef5 --cells cells
    """
    from engines.models.bundle import ModelBundle
    from engines.tensorrt.engine_store import find_engine
    from screen.cli.progress import show_logs
    from screen.cli.tables import findings_table
    from screen.engine_verify import cells_of, held_against

    found, bundle = find_engine(key), ModelBundle.load(model)
    with show_logs(Console(stderr=True), quiet=False):
        batches = cells_of(cells, bundle, count, found.key.batch)
        findings = list(held_against(found, bundle, batches))
    Console().print(findings_table(findings))
    return MENDABLE if any(finding.outcome == "failed" for finding in findings) else DONE


@engine.command()
@KEY
def remove(key: str) -> int:
    """
    Remove the engine KEY; a run that needs it builds it again.

    \b
    Example:
      slidescreen engine remove 4b5e5ef5
    """
    from engines.tensorrt.engine_store import find_engine, remove_engine
    from screen.cli.tables import engine_line

    found = find_engine(key)
    remove_engine(found)
    say(f"removed {engine_line(found)}")
    return DONE
