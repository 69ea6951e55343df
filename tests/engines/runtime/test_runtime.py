"""The runtime contract, over every runtime and precision of this machine."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections import Counter
from dataclasses import asdict, replace
from shutil import copytree

import fake_tensorrt
import numpy as np
import pytest
import torch
from logs import logged

from engines.backends import open_runtime, precision_candidates, runtime_candidates
from engines.cells import Batch, CellFacts, CellRef, Fault, Shard
from engines.errors import BackendMissingError, DeviceError, EngineBuildError
from engines.hardware.cuda_streams import HostStream
from engines.hardware.gpu import gpu_or_why_not
from engines.mixed_precision.policy import find_mixed
from engines.models.bundle import ModelBundle, with_half
from engines.models.serving_graph import convolution_types, serving_graph
from engines.parity import DP_LIMIT
from engines.registry import REFERENCE_RUNTIME, RUNTIMES, runtimes_on
from engines.runtime import gpu_slots
from engines.runtime.base import PRECISIONS, RuntimeOptions
from engines.runtime.gpu_slots import IN_FLIGHT
from engines.runtime.tensorrt import TensorRTRuntime, open_cached
from engines.runtime.torch_cuda import TorchCudaRuntime
from engines.uncertainty import probabilities

BATCH = 4
EVIDENCE_TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}
CPU = torch.device("cpu")
BY_ROW = [
    pytest.param((row.name, precision), marks=[pytest.mark.gpu] if row.device == "gpu" else [])
    for row in RUNTIMES
    for precision in (PRECISIONS if row.name != REFERENCE_RUNTIME else ["fp32"])
]


class OnProcessor(TorchCudaRuntime):
    """PyTorch's runtime for GPUs, working on the processor, where compiling takes minutes."""

    device = CPU
    compiler = None


@pytest.fixture(
    params=[
        *BY_ROW,
        ("slots", "fp32"),
        ("slots", "fp16"),
        ("slots", "bf16"),
        ("slots-tensorrt", "fp16"),
    ],
    ids="-".join,
    scope="module",
)
def runtime(request, bundle, tmp_path_factory):
    """Each row of the registry at each precision; ``slots``: one for GPUs, on the processor."""
    name, precision = request.param
    options = RuntimeOptions(precision=precision, batch=BATCH, threads=2)
    if name.startswith("slots"):
        torch.set_num_threads(1)
    if name == "slots":
        return OnProcessor(bundle, options)
    if name == "slots-tensorrt":
        return on_fake_tensorrt(bundle, options, tmp_path_factory.mktemp("plan"))
    try:
        runtime_candidates(name)
        precision_candidates(name, precision)
    except BackendMissingError as error:
        if name in runtimes_on("gpu") and isinstance(gpu_or_why_not(), str):
            raise  # --require-gpu insists
        pytest.skip(str(error))
    return open_runtime(name, bundle, options)


def on_fake_tensorrt(bundle, options, folder, plans=(fake_tensorrt.GOOD,), discarded=None):
    """Open TensorRT's runtime on a fake that gives these plans, one after the other."""
    plans = iter(plans)
    discarded = [] if discarded is None else discarded
    with pytest.MonkeyPatch.context() as patch:
        module = "engines.runtime.tensorrt."
        fake = fake_tensorrt.installed(bundle, options.precision)
        patch.setattr(module + "open_variant", lambda _: fake)
        patch.setattr(
            module + "engine_for",
            lambda *_, **__: fake_tensorrt.engine(folder, next(plans)),
        )
        patch.setattr(module + "discard", lambda _, why: discarded.append(why))
        patch.setattr(TensorRTRuntime, "device", CPU)
        return open_cached("tensorrt-rtx", bundle, options)


def batch_of(pixels, name="cell", faults=0):
    """Wrap pixels, and as many faults, as a batch of a shard of its own."""
    refs = tuple(CellRef(f"{name}{index}", "s") for index in range(len(pixels)))
    bad = tuple(Fault(CellRef(f"bad{index}", "s"), "undecodable", "r") for index in range(faults))
    shard = Shard(0, (*refs, *(fault.ref for fault in bad)))
    return Batch(shard, refs, (CellFacts(),) * len(refs), pixels, bad)


def noise(count, seed=0):
    """Return random images."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_batches_come_out_in_order_and_whole(runtime):
    """Full, ragged, empty and all-faulty batches all come out, in order, with their own refs."""
    batches = [
        batch_of(noise(n, n), f"b{k}-", faults=k % 2) for k, n in enumerate([4, 1, 0, 3, 4, 0])
    ]

    scores = list(runtime.stream(iter(batches)))

    assert [item.refs for item in scores] == [batch.refs for batch in batches]
    assert [item.faults for item in scores] == [batch.faults for batch in batches]
    assert [len(item.logits) for item in scores] == [4, 1, 0, 3, 4, 0]


def test_scores_have_the_promised_shapes(runtime):
    """Logits are float32, features and evidence float16."""
    (scores,) = runtime.stream([batch_of(noise(3))])

    assert (scores.logits.dtype, scores.logits.shape) == (np.float32, (3, 2))
    assert (scores.features.dtype, scores.features.ndim) == (np.float16, 2)
    assert (scores.evidence.dtype, scores.evidence.shape[:2]) == (np.float16, (3, 2))


def test_scores_do_not_depend_on_neighbours(runtime):
    """A cell alone, or anywhere in any batch, has the same logits bit for bit."""
    images = noise(BATCH)
    (together,) = runtime.stream([batch_of(images)])

    for index in range(BATCH):
        (alone,) = runtime.stream([batch_of(images[index : index + 1])])
        (moved,) = runtime.stream(
            [batch_of(np.concatenate([noise(1, 9), images[index : index + 1]]))]
        )
        assert np.array_equal(alone.logits[0], together.logits[index])
        assert np.array_equal(moved.logits[1], together.logits[index])


def test_no_stage_writes_into_a_batchs_pixels(runtime):
    """Every input's bytes are the same before and after, whatever is in flight."""
    batches = [batch_of(noise(n % BATCH + 1, n)) for n in range(24)]
    before = [hashlib.sha256(batch.pixels).digest() for batch in batches]

    list(runtime.stream(batches))

    assert [hashlib.sha256(batch.pixels).digest() for batch in batches] == before


def test_a_repeated_stream_repeats_its_scores(runtime):
    """Nothing is left in a request from the batch before it, or from a stream left early."""
    batches = [batch_of(noise(n % BATCH + 1, n)) for n in range(12)]
    first = [item.logits for item in runtime.stream(batches)]

    next(runtime.stream(batches[5:]))
    again = [item.logits for item in runtime.stream(batches)]

    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))


def test_results_stay_when_the_stream_goes_on(runtime):
    """Scores are copies: later batches do not change them."""
    stream = runtime.stream([batch_of(noise(BATCH, n)) for n in range(12)])
    first = next(stream)
    kept = first.logits.copy()

    list(stream)

    assert np.array_equal(first.logits, kept)


def test_evidence_adds_up_to_the_logits(runtime, bundle):
    """The mean of the evidence over places, plus the bias, is the logit."""
    from engines.models.serving_graph import network_from_bundle

    bias = network_from_bundle(bundle).get_classifier().bias.detach().numpy()
    (scores,) = runtime.stream([batch_of(noise(BATCH))])
    total = scores.evidence.astype(np.float64).mean(axis=(2, 3)) + bias

    spread = max(1.0, float(np.abs(scores.logits).max()))

    assert (
        np.abs(total - scores.logits).max()
        <= EVIDENCE_TOLERANCE[runtime.options.precision] * spread
    )


def test_scores_agree_with_the_reference(runtime, bundle):
    """Probabilities are FP32 PyTorch's within the limit of the precision."""
    reference = open_runtime("torch", bundle, RuntimeOptions(batch=BATCH, threads=2))
    batches = [batch_of(noise(BATCH, n)) for n in range(8)]

    ours, theirs = (
        probabilities(
            np.concatenate([item.logits for item in each.stream(batches)]), bundle.temperature
        )
        for each in (runtime, reference)
    )

    assert np.abs(ours - theirs).max() <= DP_LIMIT[runtime.options.precision]


def test_more_cells_than_the_batch_are_refused(runtime):
    """A batch larger than what was compiled is an error, not a silent cut."""
    with pytest.raises(ValueError, match="at most 4"):
        list(runtime.stream([batch_of(noise(BATCH + 1))]))


def test_a_failing_decoder_fails_the_stream(runtime):
    """An exception upstream comes through, and the runtime can be used again."""

    def failing():
        yield batch_of(noise(2))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(runtime.stream(failing()))

    assert len(list(runtime.stream([batch_of(noise(2))]))) == 1


@pytest.mark.parametrize("kept", [(), ("conv_stem", "blocks.1")])
def test_bfloat16_on_the_processor_has_the_bundles_exceptions(bundle, tmp_path, kept):
    """Convolutions that the bundle names compute in float32, the others do not."""
    openvino = pytest.importorskip("openvino")
    if "bf16" not in next(precision_candidates("openvino")).value:
        pytest.skip("this processor does not compute in bfloat16")
    copy = ModelBundle.load(copytree(bundle.folder, tmp_path / "bundle"))
    pixels = noise(8)
    found = find_mixed(bundle, batch_of(pixels).refs, pixels, precision="bf16")
    told = with_half(copy, {"bf16": asdict(replace(found, costly=kept))})
    compiled = []
    compile_model = openvino.Core.compile_model

    def spied(*args):
        compiled.append(compile_model(*args))
        return compiled[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino.Core, "compile_model", spied)
        runtime = open_runtime("openvino", told, RuntimeOptions(precision="bf16"))

    facts = [op.get_rt_info() for op in compiled[0].get_runtime_model().get_ordered_ops()]
    types = [
        f["runtimePrecision"].astype(str) for f in facts if "Conv" in f["layerType"].astype(str)
    ]
    expected = convolution_types(serving_graph(told, precision="bf16", keep_fp32=kept))
    assert Counter(types) == {
        {"fp32": "f32"}.get(name, name): count for name, count in expected.items()
    }
    assert runtime.version.endswith(
        "in float32 blocks.1 conv_stem" if kept else openvino.__version__
    )


def test_threads_do_not_change_a_score(bundle):
    """Resuming on fewer threads gives the same bits; so threads are not in the fingerprint."""
    batches = [batch_of(noise(BATCH, n)) for n in range(4)]
    name = next(runtime_candidates()).value
    precision = next(precision_candidates(name)).value

    one, two = (
        [
            item.logits
            for item in open_runtime(
                name, bundle, RuntimeOptions(precision=precision, batch=BATCH, threads=threads)
            ).stream(batches)
        ]
        for threads in (1, 2)
    )

    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_an_absent_precision_is_refused_by_name():
    """The reference computes in float32 only, and says so."""
    with pytest.raises(BackendMissingError, match="bf16 is not usable with the runtime torch"):
        precision_candidates("torch", "bf16")


@pytest.fixture(params=["slots", pytest.param("torch-cuda", marks=pytest.mark.gpu)])
def in_slots(request, bundle):
    """A runtime with slots."""
    options = RuntimeOptions(precision="fp16", batch=BATCH)
    torch.set_num_threads(1)
    return (OnProcessor if request.param == "slots" else TorchCudaRuntime)(bundle, options)


@torch.inference_mode()
def poison(slot, value):
    """Fill all of a slot's memory."""
    for buffer in (slot.pixels, slot.staged, *slot.outputs, *slot.landed):
        buffer.fill_(value if buffer.is_floating_point() else int(np.nan_to_num(value)))
    if slot.stream.handle:
        torch.cuda.synchronize()


def test_poisoned_buffers_show_in_no_score(in_slots):
    """Whatever was left in a slot's memory before, on either side, its scores are the same."""
    batches = [batch_of(noise(n % BATCH + 1, n)) for n in range(9)]
    expected = [item.logits for item in in_slots.stream(batches)]

    for value in (0, 255, float("nan")):
        for slot in in_slots.slots:
            poison(slot, value)
        again = [item.logits for item in in_slots.stream(batches)]
        assert all(np.array_equal(one, two) for one, two in zip(expected, again, strict=True))


def test_pixels_may_come_as_tensors_of_the_device(in_slots):
    """What a decoder left on the device scores as the same pixels from the host do."""
    images = [noise(n % BATCH + 1, n) for n in range(9)]
    device = in_slots.slots[0].stream.device
    from_host = [item.logits for item in in_slots.stream(batch_of(each) for each in images)]

    on_device = (batch_of(torch.from_numpy(each).to(device)) for each in images)
    from_device = [item.logits for item in in_slots.stream(on_device)]

    assert all(np.array_equal(one, two) for one, two in zip(from_host, from_device, strict=True))


def test_batches_are_kept_while_they_are_in_flight(in_slots):
    """A slot holds on to its batch, whose pixels the device may still be reading."""
    stream = in_slots.stream(batch_of(noise(2, n)) for n in range(9))

    next(stream)

    assert sum(slot.batch is not None for slot in in_slots.slots) == IN_FLIGHT - 1
    stream.close()


def test_a_plan_that_does_not_load_is_built_anew_once(bundle, tmp_path):
    """The cache is told to discard it, with what TensorRT said."""
    discarded = []
    plans = (fake_tensorrt.BAD, fake_tensorrt.GOOD)

    runtime = on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path, plans, discarded)

    (scores,) = runtime.stream([batch_of(noise(3))])
    assert len(scores.logits) == 3
    assert runtime.version == "tensorrt-rtx 1.2.3, in float32 stem"
    assert len(discarded) == 1
    assert "the plan does not load" in discarded[0]


@pytest.mark.parametrize(
    ("plan", "targets", "expected"),
    [(fake_tensorrt.FULL, (), DeviceError), (fake_tensorrt.BAD, ("sm_89",), EngineBuildError)],
    ids=["out of memory", "ahead of time"],
)
def test_a_good_plan_is_not_thrown_away(bundle, tmp_path, plan, targets, expected):
    """Memory that another program holds passes; what was built for other GPUs is theirs, too."""
    discarded = []
    made = fake_tensorrt.engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_tensorrt, "engine", lambda folder, each: made(folder, each, targets))
        with pytest.raises(expected):
            on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path, [plan], discarded)

    assert discarded == []


def test_a_plan_that_never_loads_is_an_error(bundle, tmp_path):
    """Once is enough: the second failure is the user's to see."""
    with pytest.raises(EngineBuildError, match="the plan does not load"):
        on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path, [fake_tensorrt.BAD] * 2)


def test_a_plan_that_does_not_run_is_an_error(bundle, tmp_path):
    """TensorRT answers False and nothing else; no score comes of it."""
    runtime = on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)
    for slot in runtime.slots:
        slot.stream.handle = 1  # another stream than the fake takes

    with pytest.raises(EngineBuildError, match="the plan did not run"):
        list(runtime.stream([batch_of(noise(3))]))


class CapturingStream(HostStream):
    """Captures as CUDA does: what is replayed holds nothing of what was captured."""

    def captured(self, work):
        """Do the work once, and let go of it."""
        work()
        return lambda: None


def test_a_captured_plan_keeps_its_context_and_settings(bundle, tmp_path, monkeypatch):
    """A CUDA graph replays on the context's memory: it may not be freed while the slot lives."""
    made = []
    create = fake_tensorrt.Engine.create_execution_context

    def noted(self, config):
        context = create(self, config)
        made.extend([weakref.ref(context), weakref.ref(config)])
        return context

    monkeypatch.setattr(fake_tensorrt.Engine, "create_execution_context", noted)
    monkeypatch.setattr(gpu_slots, "open_stream", lambda _: CapturingStream())

    runtime = on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)
    gc.collect()

    assert len(made) == 2 * len(runtime.slots)
    assert all(each() is not None for each in made)


@pytest.fixture
def compilations(monkeypatch):
    """Count how often the fake compiles kernels."""
    monkeypatch.setattr(fake_tensorrt.Cache, "count", 0)
    return lambda: fake_tensorrt.Cache.count


def test_kernels_are_compiled_once_for_all_slots_and_starts(bundle, tmp_path, compilations):
    """One cache serves every slot, and lies beside the plan for the next start."""
    for _ in range(2):
        on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)

    assert compilations() == 1
    assert (tmp_path / "engine.kernels").read_bytes().endswith(fake_tensorrt.Cache.KERNELS)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "damaged"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "damaged"),
        (lambda _: b"", "damaged"),
        (lambda _: hashlib.sha256(b"other").digest() + b"other", "another GPU"),
    ],
    ids=["cut", "flipped", "empty", "of another GPU"],
)
def test_kernels_that_do_not_fit_are_compiled_anew(bundle, tmp_path, compilations, damage, said):
    """They are never run, and the run goes on."""
    on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)
    kept = tmp_path / "engine.kernels"
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))

    with logged() as lines:
        on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)

    assert compilations() == 2
    assert any(said in line for line in lines)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_run(bundle, tmp_path, monkeypatch):
    """Kernels are compiled at every start then, and a line says so."""

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.tensorrt.runtime_cache.whole_file", full)
    with logged() as lines:
        runtime = on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)

    assert any("No space left on device" in line for line in lines)
    assert len(list(runtime.stream([batch_of(noise(2))]))) == 1


def test_a_plan_that_cannot_be_captured_runs_and_says_so(bundle, tmp_path, monkeypatch):
    """Its kernels are launched one by one."""
    monkeypatch.setattr(fake_tensorrt.Context, "capturable", False)
    monkeypatch.setattr(gpu_slots, "open_stream", lambda _: RefusingStream())

    with logged() as lines:
        runtime = on_fake_tensorrt(bundle, RuntimeOptions(batch=BATCH), tmp_path)

    (scores,) = runtime.stream([batch_of(noise(2))])
    assert len(scores.logits) == 2
    assert any("cannot be captured as a CUDA graph" in line for line in lines)


class RefusingStream(HostStream):
    """May not capture."""

    def captured(self, work):  # noqa: ARG002  as others are called
        """Fail the test."""
        raise AssertionError("captured")


def test_memory_that_runs_out_is_an_error_with_a_way_out(bundle, monkeypatch):
    """A batch too large for the GPU names the batch."""

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(TorchCudaRuntime, "_bound", full)

    with pytest.raises(DeviceError, match="a batch of 4: CUDA out of memory") as caught:
        OnProcessor(bundle, RuntimeOptions(batch=4))
    assert "--batch-size" in caught.value.hint
