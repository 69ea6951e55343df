"""``slidescreen doctor``: every row of the registry is tried, and what is said of it is true."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engines import backends
from engines.errors import DeviceError
from engines.hardware import gpu
from engines.registry import DECODERS, RUNTIMES
from screen import doctor
from screen.cli import main as cli


@pytest.fixture
def examined(bundle):
    """Try everything with a tiny model; return the checks by name."""
    return lambda: {check.name: check for check in doctor.examine(bundle.folder)}


@pytest.fixture
def command(bundle, monkeypatch, capsys):
    """Run the command with a tiny model; return status, lines of stdout, and stderr."""

    def run():
        examine = doctor.examine
        monkeypatch.setattr(doctor, "examine", lambda: examine(bundle.folder))
        monkeypatch.setattr(sys, "argv", ["slidescreen", "doctor"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out.splitlines(), err

    return run


@pytest.fixture
def no_gpu(monkeypatch):
    """Pretend that there is none."""
    monkeypatch.setattr(gpu, "this_device", lambda: None)
    monkeypatch.setattr(gpu, "has_driver", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_every_row_of_the_registry_is_tried(examined):
    """What this machine can run is ok, with its version; the rest says what it lacks."""
    found = examined()

    names = {f"decoder {row.name}" for row in DECODERS} | {
        f"runtime {row.name}" for row in RUNTIMES
    }
    assert names <= {name.partition(" on the ")[0] for name in found}
    for row in RUNTIMES:
        check = found[f"runtime {row.name}"]
        assert check.outcome == ("absent" if row.device == "gpu" else "ok"), check
        assert (row.device == "gpu") == ("GPU" in check.remedy)
    assert "largest difference of a probability" in found["runtime openvino"].detail


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_gpu_decoder_is_not_answered_with_a_runtime(examined):
    """What would bring it is a GPU."""
    check = examined()["decoder dali on the GPU"]

    assert check.outcome == "absent"
    assert "--runtime" not in check.remedy
    assert "an NVIDIA GPU" in check.remedy


@pytest.mark.usefixtures("no_gpu")
def test_a_line_is_printed_for_each_thing_and_the_status_is_0(command):
    """The first word says how it went, the rest what works."""
    status, lines, err = command()

    assert status == 0
    assert err == ""
    assert {line.split()[0] for line in lines} == {"ok", "absent"}
    assert any(line.startswith("ok      runtime openvino: openvino 20") for line in lines)
    assert any(line.startswith("absent  runtime tensorrt: no GPU") for line in lines)


@pytest.mark.usefixtures("no_gpu")
def test_a_default_path_that_does_not_work_gives_status_1(command, monkeypatch):
    """The runtime that a run would take by itself cannot be opened: there is nothing to rely on."""
    opened = doctor.open_runtime

    def failing(name, *rest):
        if name == "openvino":
            raise DeviceError("it is broken", hint="mend it")
        return opened(name, *rest)

    monkeypatch.setattr(doctor, "open_runtime", failing)

    status, lines, err = command()

    assert status == 1
    assert "failed  runtime openvino: it is broken -> mend it" in lines
    assert "runtime openvino" in err


@pytest.mark.usefixtures("no_gpu")
def test_a_package_that_is_not_installed_names_what_brings_it(examined, monkeypatch):
    """The next best is then what a run needs."""
    find = backends.find_spec
    monkeypatch.setattr(
        backends, "find_spec", lambda name: None if name == "openvino" else find(name)
    )

    found = examined()

    assert found["runtime openvino"].outcome == "absent"
    assert found["runtime openvino"].remedy == "pip install openvino"
    assert not found["runtime openvino"].needed
    assert found["runtime torch"].needed


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("value", [3.0, np.nan])
def test_a_runtime_that_scores_otherwise_than_the_reference_has_failed(
    examined, monkeypatch, value
):
    """Running is not enough."""
    scored = doctor._logits

    def skewed(name, *rest):
        logits, version = scored(name, *rest)
        if name == "openvino":
            logits[:, 0] += value
        return logits, version

    monkeypatch.setattr(doctor, "_logits", skewed)

    check = examined()["runtime openvino"]

    assert check.outcome == "failed"
    assert "its scores are not the reference's" in check.detail


@pytest.mark.usefixtures("no_gpu")
def test_a_decoder_that_gives_other_pixels_has_failed(examined, monkeypatch):
    """Four pixels are known beforehand."""
    decoded = doctor._decoded

    def wrong(name, data, device):
        return decoded(name, data[:-1] + b"\xff", device)

    monkeypatch.setattr(doctor, "_decoded", wrong)

    assert examined()["decoder pillow on the processor"].outcome == "failed"
