"""Arithmetic of large runs, and the files that start them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from screen.cli.main import cli
from screen.cli.run import run
from screen.estimate import HOST_SECONDS, Machines, estimate

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"


def test_the_slowest_stage_decides():
    """Twice the GPUs are half the time, until something else is slower."""
    one = estimate(1e9, 24_000, 1, Machines(gpus=32, cores=16, gbits=100, price=2.0))
    two = estimate(1e9, 24_000, 1, Machines(gpus=64, cores=16, gbits=100, price=2.0))
    slow = estimate(1e9, 24_000, 1, Machines(gpus=64, cores=16, gbits=0.1))

    assert one.stages[0].name == "GPUs"
    assert one.seconds == 2 * two.seconds == pytest.approx(1e9 / (32 * 5000))
    assert one.price == two.price == pytest.approx(32 * 2 * one.seconds / 3600)
    assert slow.stages[0].name == "network"
    assert slow.stages[0].rate == pytest.approx(64 * 0.1e9 / 8 / 24_000)


def test_without_gpus_the_processors_do_all():
    """And beside GPUs much less."""
    alone = estimate(1e6, 24_000, 1, Machines(gpus=0, cores=32, gbits=10))
    beside = estimate(1e6, 24_000, 1000, Machines(gpus=1, cores=32, gbits=10))

    assert 60 < alone.stages[0].rate / 32 < 110
    rates = {stage.name: stage.rate for stage in beside.stages}
    assert rates["processors"] == pytest.approx(32 / HOST_SECONDS)
    assert (alone.requests, beside.requests) == (1e6, 1e3)


def test_on_the_command_line():
    """Numbers as people write them; the limits are always said."""
    told = CliRunner().invoke(
        cli, ["estimate", "--cells", "1e9", "--gpus", "64", "--price", "2"], standalone_mode=False
    )

    assert told.return_value == 0
    assert "GPUs: 320,000 cells/s, the slowest" in told.output
    assert "1,000,000,000 requests" in told.output
    assert "machines: " in told.output
    assert "No GPU has been measured" in told.output
    with pytest.raises(SystemExit):
        cli.main(["estimate", "--cells", "-3"])


def options_of_runs(text):
    """Return the options of every slidescreen run in a file, whatever quotes are around it."""
    text = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"slidescreen run [^\n()]*", text)
    return [set(re.findall(r"(?<= )--[a-z-]+", line)) for line in lines]


@pytest.mark.parametrize("name", ["slurm.sh", "kubernetes.yaml", "rayjob.yaml"])
def test_job_files_name_commands_and_options_that_exist(name):
    """Those of Kubernetes are YAML, that of Slurm is shell."""
    path = CLUSTER / name
    text = path.read_text("utf-8")
    if path.suffix == ".sh":
        subprocess.run(["/bin/sh", "-n", str(path)], check=True)
    else:
        job = yaml.safe_load(text)
        assert job["kind"] in ("Job", "RayJob")
        text += re.sub(r"\s+", " ", str(job))
    options = {name for parameter in run.params for name in parameter.opts}
    found = options_of_runs(text)

    assert found
    assert {"--part", "--ray"} & set.union(*found)
    assert set.union(*found) <= options


def test_the_dockerfile_installs_extras_that_exist():
    """And nothing that the project does not pin."""
    import tomllib

    text = (CLUSTER / "Dockerfile").read_text("utf-8")
    root = CLUSTER.parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    named = {each for found in re.findall(r"EXTRAS=([\w,]+)", text) for each in found.split(",")}

    assert named <= set(extras["optional-dependencies"])
    assert "-c constraints.txt" in text
