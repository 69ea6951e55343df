"""What is chosen on which machine, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from engines import backends
from engines.backends import decoder_candidates, precision_candidates, runtime_candidates
from engines.decode.base import DecodeOptions
from engines.errors import BackendMissingError
from engines.hardware import gpu
from engines.hardware.gpu import Device
from engines.registry import REFERENCE_DECODER, REFERENCE_RUNTIME, runtime_names, runtimes_on
from engines.runtime import availability
from engines.runtime.base import default_batch
from engines.tensorrt.versions import VARIANTS, Installed

H200 = Device("NVIDIA H200", "9.0", "580.65")
RTX4090 = Device("NVIDIA GeForce RTX 4090", "8.9", "580.65")
RTX2080 = Device("NVIDIA GeForce RTX 2080", "7.5", "580.65")
BY_NAME = {variant.name: variant for variant in VARIANTS}


@pytest.fixture
def on(monkeypatch):
    """Pretend to be on a machine with this GPU and these variants of TensorRT."""

    def pretend(device, *variants, driver=True):
        def open_variant(name):
            if name not in variants:
                raise BackendMissingError(f"{name} needs a package", hint=f"install {name}")
            return Installed(BY_NAME[name], SimpleNamespace(), "1")

        monkeypatch.setattr(availability, "this_device", lambda: device)
        monkeypatch.setattr(gpu, "this_device", lambda: device)
        monkeypatch.setattr(gpu, "has_driver", lambda: driver)
        monkeypatch.setattr(availability, "open_variant", open_variant)

    return pretend


def test_without_a_gpu_openvino_runs_and_says_why(on):
    """Reasons that several runtimes share are given once."""
    on(None, "tensorrt", "tensorrt-rtx", driver=False)

    choice = next(runtime_candidates())

    assert choice.value == "openvino"
    assert choice.reason == "the fastest that works here; no GPU: there is no NVIDIA driver here"


def test_a_gpu_that_pytorch_cannot_use_is_told_from_none(on):
    """A driver without a usable GPU wants another remedy."""
    on(None, driver=True)

    assert "PyTorch cannot use the GPU" in next(runtime_candidates()).reason


@pytest.mark.parametrize(
    ("device", "variants", "expected"),
    [
        (H200, ("tensorrt", "tensorrt-rtx"), "tensorrt"),
        (H200, ("tensorrt-rtx",), "torch-cuda"),
        (RTX4090, ("tensorrt-rtx",), "tensorrt-rtx"),
        (RTX4090, ("tensorrt", "tensorrt-rtx"), "tensorrt"),
        (RTX4090, (), "torch-cuda"),
        (RTX2080, ("tensorrt-rtx",), "torch-cuda"),
    ],
)
def test_auto_prefers_what_takes_this_gpu(on, device, variants, expected):
    """TensorRT, then TensorRT-RTX where the GPU is supported, then PyTorch."""
    on(device, *variants)

    choice = next(runtime_candidates())

    assert choice.value == expected
    if "tensorrt" not in variants:
        assert "tensorrt needs a package" in choice.reason


def test_auto_goes_on_to_the_next(on):
    """What fails to open is followed by the next best that works here, and never tried twice."""
    on(RTX4090, "tensorrt", "tensorrt-rtx")

    choices = list(runtime_candidates())

    assert tuple(choice.value for choice in choices) == runtime_names()
    assert [choice.reason for choice in choices[:2]] == [
        "the fastest that works here",
        "the next that works here",
    ]


@pytest.mark.parametrize("name", runtimes_on("gpu"))
def test_a_gpu_runtime_by_name_needs_a_gpu(on, name):
    """Asked for by name it fails, saying what is missing and what to do."""
    on(None, "tensorrt", "tensorrt-rtx", driver=False)

    with pytest.raises(BackendMissingError, match="there is no NVIDIA driver") as caught:
        runtime_candidates(name)
    assert "openvino" in caught.value.hint


def test_an_unsupported_gpu_by_name_is_named(on):
    """TensorRT-RTX on a data centre GPU."""
    on(H200, "tensorrt-rtx")

    with pytest.raises(BackendMissingError, match="does not take this GPU .NVIDIA H200, sm_90"):
        runtime_candidates("tensorrt-rtx")


def test_a_missing_package_by_name_keeps_its_remedy(on):
    """The variant's own hint comes through."""
    on(H200)

    with pytest.raises(BackendMissingError) as caught:
        runtime_candidates("tensorrt")
    assert caught.value.hint == "install tensorrt"


def test_what_works_by_name_is_taken(on):
    """No second guess."""
    on(RTX4090, "tensorrt", "tensorrt-rtx")

    for name in runtime_names():
        assert next(runtime_candidates(name)).value == name
        assert next(runtime_candidates(name)).reason == "asked for"


def test_half_precision_is_the_default_on_a_gpu(on):
    """bfloat16 is there from Ampere on; float32 always; the rest is refused by name."""
    on(H200)
    assert next(precision_candidates("torch-cuda")).value == "fp16"
    assert [next(precision_candidates("torch-cuda", name)).value for name in ("bf16", "fp32")] == [
        "bf16",
        "fp32",
    ]
    on(RTX2080)
    assert next(precision_candidates("torch-cuda")).value == "fp16"
    with pytest.raises(BackendMissingError, match="no bfloat16"):
        precision_candidates("torch-cuda", "bf16")


def test_batches_are_large_on_a_gpu_only():
    """Each runtime has its own best."""
    assert default_batch("gpu") == 256
    assert default_batch("cpu") == 4


def place(decoder, device="auto", *, model_on_gpu):
    """Return where a decoder would decode first."""
    return next(decoder_candidates(decoder, device, model_on_gpu=model_on_gpu)).device.value


def test_cells_are_decoded_where_the_model_runs(on):
    """Unless Pillow decodes, or the user says otherwise."""
    on(H200)

    assert place("dali", model_on_gpu=True) == "gpu"
    assert place("dali", model_on_gpu=False) == "cpu"
    assert place("pillow", model_on_gpu=True) == "cpu"
    assert place("dali", "cpu", model_on_gpu=True) == "cpu"
    assert place("dali", "gpu", model_on_gpu=False) == "gpu"
    with pytest.raises(BackendMissingError, match="pillow decodes on the processor only"):
        decoder_candidates("pillow", "gpu", model_on_gpu=True)


def test_decoding_on_a_gpu_by_name_needs_one(on):
    """As for runtimes."""
    on(None)

    with pytest.raises(BackendMissingError, match="no NVIDIA GPU") as caught:
        decoder_candidates("dali", "gpu", model_on_gpu=False)
    assert "--decode-on cpu" in caught.value.hint


def test_an_unknown_device_is_refused():
    """At birth."""
    with pytest.raises(ValueError, match="cpu or gpu"):
        replace(DecodeOptions(), device="tpu")


def test_auto_decodes_ever_nearer_to_the_reference(on):
    """On the GPU, then the same on the processor, then as the reference does."""
    on(H200)

    found = decoder_candidates(model_on_gpu=True)

    assert [(each.decoder.value, each.device.value) for each in found] == [
        ("dali", "gpu"),
        ("dali", "cpu"),
        ("pillow", "cpu"),
    ]


def test_a_decoder_without_its_package_is_passed_over_and_said(monkeypatch):
    """By name it is an error with the command that brings it."""
    monkeypatch.setattr(backends, "find_spec", lambda name: None if "nvidia" in name else 1)

    decoder = next(decoder_candidates()).decoder

    assert decoder.value == REFERENCE_DECODER
    assert "nvidia-dali-cuda130 is not installed" in decoder.reason
    with pytest.raises(BackendMissingError, match="dali does not work here") as caught:
        decoder_candidates("dali")
    assert caught.value.hint == "pip install 'nvidia-dali-cuda130>=2.4,<2.5'"


def test_float32_follows_a_half_precision(on):
    """Parity may want it; the reference has nothing else."""
    on(H200)

    assert [each.value for each in precision_candidates("torch-cuda")] == ["fp16", "fp32"]
    assert [each.value for each in precision_candidates(REFERENCE_RUNTIME)] == ["fp32"]
