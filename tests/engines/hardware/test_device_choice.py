"""Which GPU a process sees, on machines that are only pretended."""

from __future__ import annotations

import os

import pytest
import torch

from engines.backends import runtime_candidates
from engines.errors import BackendMissingError, DeviceError
from engines.hardware import device_choice, gpu
from engines.hardware.device_choice import kind_of_device, use_device
from engines.hardware.gpu import Device
from engines.registry import runtimes_on

H100 = Device("NVIDIA H100", "9.0", "580.65")


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have some GPUs; CUDA shows one as soon as one is picked."""

    def pretend(count, *, visible=None, used=False, shown=1):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
        monkeypatch.setattr(device_choice, "has_driver", lambda: count > 0)
        monkeypatch.setattr(device_choice, "driver_gpu_count", lambda: shown)
        here = H100 if count else "there is no NVIDIA driver here"
        monkeypatch.setattr(device_choice, "gpu_or_why_not", lambda: here)

    device_choice._visible_at_first.cache_clear()
    yield pretend
    device_choice._visible_at_first.cache_clear()


@pytest.mark.parametrize(
    ("visible", "device", "seen"),
    [
        (None, "cuda:1", "1"),
        (None, "cuda:0", "0"),
        ("3,5", "cuda:1", "5"),
        ("GPU-a, GPU-b", "cuda:1", "GPU-b"),
        ("3,5", "cuda", "3,5"),
        (None, "auto", None),
        (None, "cpu", None),
    ],
)
def test_the_gpu_that_is_asked_for_is_the_only_one_seen(machine, visible, device, seen):
    """Counted among those that CUDA_VISIBLE_DEVICES names."""
    machine(2, visible=visible)

    use_device(device)

    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen


def test_the_same_again_is_the_same_gpu(machine):
    """Numbers go on counting from what was visible at first, so a second run may ask again."""
    machine(2)
    use_device("cuda:1")
    machine(1, visible="1", used=True)

    use_device("cuda:1")

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    with pytest.raises(DeviceError, match="used GPUs before it was told to use cuda:0"):
        use_device("cuda:0")


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(machine):
    """And nothing is changed."""
    machine(2)

    with pytest.raises(DeviceError, match="no GPU cuda:2 here; there is cuda:0, cuda:1"):
        use_device("cuda:2")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_without_a_gpu_none_can_be_asked_for(machine, device):
    """The reason is said, and what to do."""
    machine(0)

    with pytest.raises(BackendMissingError, match=f"{device} cannot be used: .*no NVIDIA driver"):
        use_device(device)


def test_cuda_that_was_used_before_is_an_error(machine):
    """Whether PyTorch says so, or the driver goes on showing more than one GPU."""
    machine(2, used=True)
    with pytest.raises(DeviceError, match="used GPUs before"):
        use_device("cuda:1")

    machine(2, shown=2)
    with pytest.raises(DeviceError, match="used GPUs before"):
        use_device("cuda:1")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "1", ""])
def test_what_is_no_device_is_refused(device):
    """With the forms that are."""
    with pytest.raises(ValueError, match="auto, cpu, cuda or cuda:NUMBER"):
        kind_of_device(device)


def test_only_runtimes_of_the_device_are_candidates(monkeypatch):
    """A runtime of the other kind, asked for by name, is refused."""
    monkeypatch.setattr(gpu, "this_device", lambda: None)

    assert [each.value for each in runtime_candidates("auto", "cpu")] == list(runtimes_on("cpu"))
    assert list(runtime_candidates("auto", "gpu")) == []
    with pytest.raises(BackendMissingError, match="openvino does not run on the GPU"):
        runtime_candidates("openvino", "gpu")
