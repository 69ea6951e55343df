"""What is chosen on which machine, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from engines import decode
from engines.errors import BackendMissingError
from engines.hardware.gpu import Device
from engines.runtime import availability, choose, choose_precision, default_batch
from engines.tensorrt.versions import FLAVOURS, Installed

H200 = Device("NVIDIA H200", "9.0", "580.65")
RTX4090 = Device("NVIDIA GeForce RTX 4090", "8.9", "580.65")
RTX2080 = Device("NVIDIA GeForce RTX 2080", "7.5", "580.65")
BY_NAME = {flavour.name: flavour for flavour in FLAVOURS}


@pytest.fixture
def on(monkeypatch):
    """Pretend to be on a machine with this GPU and these flavours of TensorRT."""

    def pretend(device, *flavours, driver=True):
        def open_flavour(name):
            if name not in flavours:
                raise BackendMissingError(f"{name} needs a package", hint=f"install {name}")
            return Installed(BY_NAME[name], SimpleNamespace(), "1")

        monkeypatch.setattr(availability, "this_device", lambda: device)
        monkeypatch.setattr(decode, "this_device", lambda: device)
        monkeypatch.setattr(availability, "has_driver", lambda: driver)
        monkeypatch.setattr(availability, "open_flavour", open_flavour)

    return pretend


def test_without_a_gpu_openvino_runs_and_says_why(on):
    """Reasons that several runtimes share are given once."""
    on(None, "tensorrt", "tensorrt-rtx", driver=False)

    choice = choose()

    assert choice.value == "openvino"
    assert choice.reason == "the fastest that works here; no GPU: there is no NVIDIA driver here"


def test_a_gpu_that_pytorch_cannot_use_is_told_from_none(on):
    """A driver without a usable GPU wants another remedy."""
    on(None, driver=True)

    assert "PyTorch cannot use the GPU" in choose().reason


@pytest.mark.parametrize(
    ("device", "flavours", "expected"),
    [
        (H200, ("tensorrt", "tensorrt-rtx"), "tensorrt"),
        (H200, ("tensorrt-rtx",), "torch-cuda"),
        (RTX4090, ("tensorrt-rtx",), "tensorrt-rtx"),
        (RTX4090, ("tensorrt", "tensorrt-rtx"), "tensorrt"),
        (RTX4090, (), "torch-cuda"),
        (RTX2080, ("tensorrt-rtx",), "torch-cuda"),
    ],
)
def test_auto_prefers_what_takes_this_gpu(on, device, flavours, expected):
    """TensorRT, then TensorRT-RTX where the GPU is supported, then PyTorch."""
    on(device, *flavours)

    choice = choose()

    assert choice.value == expected
    if "tensorrt" not in flavours:
        assert "tensorrt needs a package" in choice.reason


def test_auto_passes_over_what_was_tried(on):
    """What failed to open is not taken twice."""
    on(RTX4090, "tensorrt", "tensorrt-rtx")

    assert choose(without=frozenset({"tensorrt"})).value == "tensorrt-rtx"
    assert choose(without=frozenset({"tensorrt", "tensorrt-rtx"})).value == "torch-cuda"


@pytest.mark.parametrize("name", availability.GPU_RUNTIMES)
def test_a_gpu_runtime_by_name_needs_a_gpu(on, name):
    """Asked for by name it fails, saying what is missing and what to do."""
    on(None, "tensorrt", "tensorrt-rtx", driver=False)

    with pytest.raises(BackendMissingError, match="there is no NVIDIA driver") as caught:
        choose(name)
    assert "openvino" in caught.value.hint


def test_an_unsupported_gpu_by_name_is_named(on):
    """TensorRT-RTX on a data centre GPU."""
    on(H200, "tensorrt-rtx")

    with pytest.raises(BackendMissingError, match="does not take this GPU .NVIDIA H200, sm_90"):
        choose("tensorrt-rtx")


def test_a_missing_package_by_name_keeps_its_remedy(on):
    """The flavour's own hint comes through."""
    on(H200)

    with pytest.raises(BackendMissingError) as caught:
        choose("tensorrt")
    assert caught.value.hint == "install tensorrt"


def test_what_works_by_name_is_taken(on):
    """No second guess."""
    on(RTX4090, "tensorrt", "tensorrt-rtx")

    for name in availability.RUNTIMES:
        assert choose(name).value == name
        assert choose(name).reason == "asked for"


def test_half_precision_is_the_default_on_a_gpu(on):
    """bfloat16 is there from Ampere on; float32 always; the rest is refused by name."""
    on(H200)
    assert choose_precision("torch-cuda").value == "fp16"
    assert [choose_precision("torch-cuda", name).value for name in ("bf16", "fp32")] == [
        "bf16",
        "fp32",
    ]
    on(RTX2080)
    assert choose_precision("torch-cuda").value == "fp16"
    with pytest.raises(BackendMissingError, match="no bfloat16"):
        choose_precision("torch-cuda", "bf16")


def test_batches_are_large_on_a_gpu_only():
    """Each runtime has its own best."""
    assert {default_batch(name) for name in availability.GPU_RUNTIMES} == {256}
    assert default_batch("openvino") == default_batch("torch") == 4


def test_cells_are_decoded_where_the_model_runs(on):
    """Unless Pillow decodes, or the user says otherwise."""
    on(H200)

    assert decode.choose_device("dali", model_on_gpu=True).value == "gpu"
    assert decode.choose_device("dali", model_on_gpu=False).value == "cpu"
    assert decode.choose_device("pillow", model_on_gpu=True).value == "cpu"
    assert decode.choose_device("dali", "cpu", model_on_gpu=True).value == "cpu"
    assert decode.choose_device("dali", "gpu", model_on_gpu=False).value == "gpu"
    with pytest.raises(BackendMissingError, match="Pillow decodes on the processor only"):
        decode.choose_device("pillow", "gpu", model_on_gpu=True)


def test_decoding_on_a_gpu_by_name_needs_one(on):
    """As for runtimes."""
    on(None)

    with pytest.raises(BackendMissingError, match="no NVIDIA GPU") as caught:
        decode.choose_device("dali", "gpu", model_on_gpu=False)
    assert "--decode-on cpu" in caught.value.hint


def test_an_unknown_device_is_refused():
    """At birth."""
    with pytest.raises(ValueError, match="cpu or gpu"):
        replace(decode.DecodeOptions(), device="tpu")
