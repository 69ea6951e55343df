"""TensorRT plans, really built, with no GPU: types, shapes, sizes, and errors to act on."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import BackendMissingError, EngineBuildError
from engines.hardware.gpu import Device
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.onnx_export import onnx_from_bundle
from engines.models.serving_graph import serving_graph
from engines.tensorrt.builder import BuildOptions, build_engine
from engines.tensorrt.inspector import check_inspected, types_from_report
from engines.tensorrt.logger import Phases, error_from_messages
from engines.tensorrt.versions import VARIANTS, Installed, choose_variant, open_variant

AHEAD = BuildOptions(batch=8, targets=("sm_86", "sm_89", "sm_120"))
H200 = Device("NVIDIA H200", "9.0", "580.1")
RTX4090 = Device("NVIDIA GeForce RTX 4090", "8.9", "580.1")


@pytest.fixture(scope="module")
def rtx():
    """The variant that builds with no GPU."""
    return open_variant("tensorrt-rtx")


@pytest.fixture(scope="module")
def default_plans(rtx):
    """The shipped EfficientNet-B3, built in float32 and in half."""
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    return {
        precision: build_engine(
            onnx_from_bundle(bundle, precision=precision), rtx, replace(AHEAD, batch=256)
        )
        for precision in ("fp32", "fp16")
    }


@pytest.mark.long
def test_the_shipped_model_is_half_where_it_should_be(default_plans):
    """All of B3's 130 convolutions are; input, normalisation, head and outputs are as promised."""
    bundle, types = ModelBundle.load(DEFAULT_BUNDLE), default_plans["fp16"].types
    height, width, classes = bundle.input.height, bundle.input.width, len(bundle.classes)

    assert types.convolutions == {"fp16": 130}
    assert types.half_share > 0.9
    assert types.inputs == [{"name": "pixels", "type": "uint8", "shape": [256, height, width, 3]}]
    assert types.outputs == [
        {"name": "logits", "type": "float", "shape": [256, classes]},
        {"name": "features", "type": "half", "shape": [256, 1536]},
        {"name": "evidence", "type": "half", "shape": [256, classes, 7, 7]},
    ]
    assert default_plans["fp32"].types.convolutions == {"fp32": 130}


@pytest.mark.long
def test_the_shipped_model_in_half_is_about_half_as_large(default_plans):
    """At most 0.6 of float32, at the default batch, too."""
    half, full = (len(default_plans[name].serialized) for name in ("fp16", "fp32"))

    assert half <= 0.6 * full


def test_modules_kept_in_float32_are_float32_in_the_parsed_network(bundle, rtx):
    """Exactly their convolutions; the others stay half."""
    model = onnx_from_bundle(bundle, precision="fp16", keep_fp32=("conv_stem", "blocks.1"))
    all_half = onnx_from_bundle(bundle, precision="fp16")

    types, others = build_engine(model, rtx, AHEAD).types, build_engine(all_half, rtx, AHEAD).types

    assert types.convolutions["fp32"] > 1
    assert sum(types.convolutions.values()) == others.convolutions["fp16"]
    assert types.half_share < others.half_share


def test_bfloat16_is_bfloat16(bundle, rtx):
    """Not half under another name."""
    types = build_engine(onnx_from_bundle(bundle, precision="bf16"), rtx, AHEAD).types

    assert set(types.convolutions) == {"bf16"}
    assert types.layers["bf16"] > types.layers["fp32"]


def test_a_network_of_other_types_than_exported_is_refused(bundle, rtx, tmp_path):
    """A float32 file that says it is half does not become an engine."""
    model = onnx.load(onnx_from_bundle(bundle))
    model.metadata_props[0].value = '{"precision": "fp16", "convolutions": {"fp16": 17}}'
    onnx.save(model, tmp_path / "claims.onnx")

    with pytest.raises(EngineBuildError, match="exported were"):
        build_engine(tmp_path / "claims.onnx", rtx, AHEAD)


def test_half_that_is_all_float32_is_refused(bundle, rtx):
    """An engine that is quietly float32 is no half engine."""
    names = tuple(name for name, _ in serving_graph(bundle).network.named_children())
    model = onnx_from_bundle(bundle, precision="fp16", keep_fp32=names)

    with pytest.raises(EngineBuildError, match="no convolution of this model can be left in fp16"):
        build_engine(model, rtx, AHEAD)


REPORT = """{"Layers": [
 {"Name": "a", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32"}]},
 {"Name": "b", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "x", "Format/Datatype": "Float"}],
  "Outputs": [{"Name": "y", "Format/Datatype": "Float"}]},
 {"Name": "c", "LayerType": "Reformat", "Inputs": [{"Name": "x", "Format/Datatype": "BFloat16"}]},
 {"Name": "d", "LayerType": "NoOp"}, "e"], "Bindings": ["x", "y"]}"""


def test_a_plan_is_read_back():
    """Layers and convolutions of the inspector's report, by what they read."""
    found = types_from_report(REPORT)

    assert found["convolutions"] == {"fp16": 1, "fp32": 1}
    assert found["layers"] == {"fp16": 1, "fp32": 1, "bf16": 1}
    with pytest.raises(EngineBuildError, match="1 convolutions in float32, 0 were"):
        check_inspected(found, {"fp16": 2})
    check_inspected(found, {"fp16": 1, "fp32": 1})


def test_the_shape_is_fixed_on_the_network(bundle, rtx):
    """No profile: with one, TensorRT's inspector gives no types, and nothing could be read back."""
    profiles = []
    trt = watching(rtx.trt, "create_optimization_profile", lambda *made: profiles.append(made))

    types = build_engine(onnx_from_bundle(bundle), replace(rtx, trt=trt), AHEAD).types

    assert profiles == []
    assert [each["shape"][0] for each in (*types.inputs, *types.outputs)] == [8] * 4


def test_an_inspection_that_counts_nothing_is_an_error():
    """What cannot be told is not in order."""
    unknown = (
        '{"Layers": [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "N/A"}]}]}'
    )

    with pytest.raises(EngineBuildError, match="no type of any of 130 convolutions"):
        check_inspected(types_from_report(unknown), {"fp16": 130})


@pytest.mark.parametrize(
    ("row", "asked"), [(row, row.first == (10, 12)) for row in VARIANTS], ids=str
)
def test_strong_typing_is_asked_for_where_it_is_not_the_only_way(bundle, rtx, row, asked):
    """TensorRT 10 wants the flag; later ones have none."""
    flags = []
    trt = watching(rtx.trt, "create_network", lambda given, _: flags.append(*given))
    row = replace(row, timing_cache=False, targets=rtx.variant.targets)

    build_engine(onnx_from_bundle(bundle), Installed(row, trt, "1.0"), AHEAD)

    strongly_typed = 1 << int(rtx.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert flags == [strongly_typed if asked else 0]


def watching(trt, method, tell):
    """Return a variant's module whose Builder tells what one method was given and returned."""

    class Watched:
        """The real builder, watched."""

        def __init__(self, logger):
            """Build with the real one."""
            self._real = rtx_builder(logger)

        def __getattr__(self, name):
            """Hand on, and tell."""
            real = getattr(self._real, name)
            if name != method:
                return real

            def told(*given):
                made = real(*given)
                tell(given, made)
                return made

            return told

    rtx_builder = trt.Builder
    module = ModuleType("watched")
    module.__dict__.update({**vars(trt), "Builder": Watched})
    return module


def test_progress_rises_to_one(bundle, rtx):
    """And names its phases."""
    seen = []
    build_engine(onnx_from_bundle(bundle), rtx, AHEAD, progress=lambda *step: seen.append(step))

    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert all(phase for _, phase in seen)


def test_an_interrupt_stops_the_build(bundle, rtx):
    """What the callback raises comes out of the build."""

    def interrupt(share, phase):
        if share > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(onnx_from_bundle(bundle), rtx, AHEAD, progress=interrupt)


def test_nested_phases_add_up():
    """A phase within a step of another moves it by a part of that step."""
    seen = []
    phases = Phases(lambda share, _: seen.append(share))

    phases.start("build", None, 2)
    phases.step("build", 0)
    phases.start("time", "build", 4)
    phases.step("time", 1)
    phases.finish("time")
    phases.finish("build")

    assert seen == [0, 0.5, 0.5, 0.75, 1, 1]


def test_an_operator_it_does_not_have_is_named(rtx, tmp_path):
    """So that a user knows what about the model it is."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in "xy"]
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph), tmp_path / "odd.onnx")

    with pytest.raises(EngineBuildError, match="no operator Frobnicate"):
        build_engine(tmp_path / "odd.onnx", rtx, AHEAD)


def test_a_file_that_is_no_model_is_named(rtx, tmp_path):
    """With what to do."""
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 100)

    with pytest.raises(EngineBuildError, match=r"cannot read .* junk\.onnx") as caught:
        build_engine(tmp_path / "junk.onnx", rtx, AHEAD)

    assert "delete" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("(cudaError 100: no CUDA-capable device is detected)", "no NVIDIA GPU"),
        ("CUDA initialization failure with error: 35", "driver"),
        ("Error Code 2: OutOfMemory (Requested size was 9 bytes.)", "memory is too small"),
        ("Cannot compile operation 'node_einsum' for Turing (SM75)", "GPU is not supported"),
        ("The engine cannot run on this GPU.", "GPU is not supported"),
        ("TensorRT-RTX does not support this compute capability.", "GPU is not supported"),
        ("The engine plan file is generated on an incompatible device", "GPU is not supported"),
        ("Cuda Runtime (an illegal memory access was encountered)", "the GPU failed"),
        ("something nobody foresaw", "something nobody foresaw"),
    ],
)
def test_what_it_says_becomes_what_to_do(rtx, said, meant):
    """Each with a hint."""
    error = error_from_messages(rtx, [said])

    assert meant in str(error)
    assert error.hint


@pytest.mark.parametrize(("name", "extra"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "rtx")])
def test_a_missing_variant_says_what_to_install(monkeypatch, name, extra):
    """Exactly that."""
    monkeypatch.setattr("engines.tensorrt.versions.find_spec", lambda _: None)

    with pytest.raises(BackendMissingError) as caught:
        open_variant(name)

    assert caught.value.hint == f"pip install slidescreen[{extra}]"


@pytest.mark.parametrize(
    ("version", "row"), [("10.12.0.36", 0), ("10.16.1.11", 0), ("11.4.0.106", 1)]
)
def test_a_version_picks_its_row(monkeypatch, version, row):
    """10.12 to 10.x, and 11.x."""
    fake_tensorrt(monkeypatch, version)

    assert open_variant("tensorrt").variant == VARIANTS[row]


@pytest.mark.parametrize("version", ["10.11.0.33", "8.6.1", "12.0.0", "odd"])
def test_a_version_in_no_row_is_refused(monkeypatch, version):
    """By its number."""
    fake_tensorrt(monkeypatch, version)

    with pytest.raises(BackendMissingError, match="tensorrt"):
        open_variant("tensorrt")


@pytest.mark.parametrize(
    ("device", "ahead", "taken"),
    [
        (H200, False, "tensorrt"),
        (RTX4090, False, "tensorrt"),
        (RTX4090, True, "tensorrt-rtx"),
        (None, False, "tensorrt-rtx"),
    ],
)
def test_auto_takes_what_serves_this_gpu(monkeypatch, device, ahead, taken):
    """TensorRT first; the RTX variant where there is no GPU, or the plan is for others."""
    fake_tensorrt(monkeypatch, "11.4.0.106")

    assert choose_variant(device=device, ahead_of_time=ahead).value.variant.name == taken


def test_a_gpu_that_the_installed_variant_does_not_take_is_named(rtx):
    """With only the RTX variant installed, a data centre GPU needs the other."""
    with pytest.raises(BackendMissingError, match="H200") as caught:
        choose_variant(device=H200)

    assert caught.value.hint == "pip install slidescreen[tensorrt]"


def fake_tensorrt(monkeypatch, version):
    """Install a package of that name and version, as far as can be told from outside."""
    module = ModuleType("tensorrt")
    module.__version__ = version
    module.__spec__ = SimpleNamespace(name="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
