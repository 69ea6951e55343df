"""Decoding batch by batch with DALI: the same code decodes on the processor and on a GPU."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from draw_cells import draw_cell
from nvidia.dali import backend
from PIL import Image

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode import batched, dali
from engines.decode.base import DecodeOptions
from engines.decode.cell_limits import CellLimits, enforced
from engines.decode.dali import DaliCodec
from engines.decode.file_formats import plain_bmp, plain_jpeg_size, plain_png_size
from engines.decode.resize import resize_into, too_steep_for_cuda
from engines.decode.upload import Uploader, rgb_from_bmp
from engines.errors import DeviceError
from engines.hardware.cuda_streams import HostStream
from engines.image_quality import quality
from engines.models.input import ModelInput
from engines.parity import PIXEL_MEAN_LIMIT, PIXEL_P999_LIMIT

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
HALF = (0.5, 0.5, 0.5)
SQUASH = ModelInput(height=48, width=64, mean=HALF, std=HALF)
FILES = {**zoo.good(), **zoo.bad(), "huge.png": zoo.huge_png()}
PLAIN_JPEGS = {"baseline.jpg", "progressive.jpg", "grey.jpeg"}
PLAIN_BMPS = {"plain.bmp", "top-down.bmp", "600.bmp"}


def read(ref):
    """Read from the zoo; what is not there has vanished."""
    if ref.path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[ref.path]


def saved(image, kind, **options):
    """Return an image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def everything():
    """Every file of the zoo, good, bad, huge and gone, as one shard."""
    return Shard(0, tuple(CellRef(path, "s") for path in [*FILES, "gone.bmp"]))


def on_cpu(expected=SQUASH, **options):
    """Open DALI on the processor."""
    return open_decoder("dali", read, expected, DecodeOptions(threads=2, **options))


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("top_down", [False, True], ids=["bottom up", "top down"])
def test_a_bmps_rows_become_pillows_pixels(width, top_down):
    """Flipping and swapping raw bytes gives exactly what Pillow decodes, whatever the padding."""
    data = saved(draw_cell(width, (width, 7)), "BMP")
    data = zoo._top_down(data) if top_down else data
    body = plain_bmp(data)

    rows = torch.frombuffer(bytearray(data), dtype=torch.uint8, count=body.size, offset=body.offset)
    rgb = rgb_from_bmp(rows, body)

    assert np.array_equal(rgb.numpy(), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_only_what_reads_alike_everywhere_is_decoded_by_dali():
    """Rotated, CMYK and RGB-coded JPEGs are the reference's, and so are other kinds of BMP."""
    files = {**zoo.good(), **zoo.bad()}
    jpegs = {name for name in zoo.good() if plain_jpeg_size(files[name])}
    bmps = {name for name in files if plain_bmp(files[name])}

    assert jpegs == PLAIN_JPEGS
    assert bmps == PLAIN_BMPS
    assert not plain_jpeg_size(saved(draw_cell(1, (9, 9)), "JPEG", keep_rgb=True))


def test_sizes_are_read_from_the_headers():
    """Height first, as everywhere."""
    wide = draw_cell(1, (9, 5))

    assert plain_jpeg_size(saved(wide, "JPEG")) == (5, 9)
    assert plain_png_size(saved(wide, "PNG")) == (5, 9)


def test_a_png_that_says_how_it_is_turned_is_the_references():
    """Its Exif chunk may hold an orientation."""
    exif = Image.Exif()
    exif[274] = 3

    assert plain_png_size(saved(draw_cell(1, (9, 5)), "PNG", exif=exif)) is None


@pytest.mark.parametrize("length", [0, 3, 20, 160, 200, 400])
def test_a_cut_header_is_not_plain(length):
    """However little there is, the answer is no and nothing is raised."""
    assert plain_jpeg_size(zoo.good()["baseline.jpg"][:length]) is None
    assert plain_png_size(zoo.good()["rgb.png"][: min(length, 20)]) is None


def test_codecs_are_named_by_the_way_a_cell_went(everything):
    """Whole BMPs go as raw bytes, other cells through the codecs of the host."""
    batches = list(on_cpu(batch=16).stream([everything]))
    codecs = {
        ref.path: facts.codec
        for batch in batches
        for ref, facts in zip(batch.refs, batch.facts, strict=True)
    }

    assert {path for path, codec in codecs.items() if codec == "raw-bmp"} == PLAIN_BMPS
    assert set(Counter(codecs.values())) == {"raw-bmp", "dali", "pillow"}


def test_faults_and_facts_are_the_hosts(everything):
    """What is wrong with a cell, or known of it, does not depend on what decodes it."""
    reference = open_decoder("pillow", read, SQUASH, DecodeOptions(threads=2, batch=200))

    (ours,), (theirs,) = (
        list(each.stream([everything])) for each in (on_cpu(batch=200), reference)
    )

    assert [(fault.ref, fault.status) for fault in ours.faults] == [
        (fault.ref, fault.status) for fault in theirs.faults
    ]
    assert ours.refs == theirs.refs
    assert [(facts.width, facts.height, facts.content_hash) for facts in ours.facts] == [
        (facts.width, facts.height, facts.content_hash) for facts in theirs.facts
    ]


@pytest.mark.parametrize("batch", [1, 3, 16, 33])
def test_batches_are_of_the_size_asked_for(everything, batch):
    """However many cells are decoded at once, none is lost, doubled or out of order."""
    batches = list(on_cpu(batch=batch).stream([everything, everything]))

    assert max(len(each.refs) for each in batches) <= batch
    (whole,) = on_cpu(batch=200).stream([everything])
    assert [ref for each in batches for ref in each.refs] == list(whole.refs) * 2
    assert [fault for each in batches for fault in each.faults] == list(whole.faults) * 2
    pixels = np.concatenate([each.pixels for each in batches])
    assert np.array_equal(pixels, np.concatenate([whole.pixels] * 2))


def test_small_groups_change_no_pixel(everything, monkeypatch):
    """How many cells are decoded at once shows in memory only."""
    (whole,) = on_cpu(batch=200).stream([everything])
    monkeypatch.setattr(batched, "GROUP_PIXELS", 10_000)
    (grouped,) = on_cpu(batch=200).stream([everything])

    assert whole.refs == grouped.refs
    assert np.array_equal(whole.pixels, grouped.pixels)


def test_quality_is_measured_on_the_pixels_that_leave():
    """As the host's decoder does, with the one function for both."""
    shard = Shard(0, tuple(CellRef(path, "s") for path in zoo.good()))
    for batch in on_cpu(batch=16).stream([shard]):
        expected = quality(torch.from_numpy(batch.pixels)).numpy()
        assert np.array_equal(batch.quality, expected, equal_nan=True)


@pytest.mark.parametrize("answer", ["none", "misshapen"])
def test_what_dali_does_not_decode_the_reference_decides(everything, monkeypatch, answer):
    """A codec that gives up on some images, or gives other sizes, loses and shifts no cell."""
    (expected,) = on_cpu(batch=200).stream([everything])
    decode = DaliCodec.decode_encoded

    def unwilling(codec, images):
        wrong = None if answer == "none" else torch.zeros((3, 3, 3), dtype=torch.uint8)
        images = decode(codec, images)
        return [wrong if index % 2 else image for index, image in enumerate(images)]

    monkeypatch.setattr(DaliCodec, "decode_encoded", unwilling)
    (batch,) = on_cpu(batch=200).stream([everything])

    assert batch.refs == expected.refs
    assert batch.faults == expected.faults
    assert np.array_equal(batch.pixels, expected.pixels)
    assert [facts.codec for facts in batch.facts] != [facts.codec for facts in expected.facts]


def test_a_bad_image_costs_itself_only():
    """Where a call fails for all of its images, each is decoded alone; others keep their pixels."""
    good = [zoo.good()["baseline.jpg"], zoo.good()["rgb.png"]]
    bad = good[0][: len(good[0]) // 2]
    codec = DaliCodec(CPU)

    expected = codec.decode_encoded(good)
    one, none, two = codec.decode_encoded([good[0], bad, good[1]])

    assert none is None
    assert torch.equal(one, expected[0])
    assert torch.equal(two, expected[1])


def test_the_gpus_decoder_is_told_what_makes_pixels_independent(monkeypatch):
    """By arguments that this release of DALI has; a bad image never rests on nvImageCodec."""
    told = []
    failing = RuntimeError("told")

    def image(encoded, **how):
        told.append(how)
        raise failing

    monkeypatch.setattr(dali.ndd, "EvalContext", lambda **_: nullcontext())
    monkeypatch.setattr(dali.ndd, "batch", list)
    monkeypatch.setattr(dali.ndd.decoders, "image", image)
    monkeypatch.setattr("engines.decode.batched.open_stream", lambda _: HostStream())
    codec = DaliCodec(torch.device("cuda", 0))

    assert codec.decode_encoded([b"one", b"two"]) == [None, None]

    assert len(told) == 3  # all together, and then one by one, on the same device
    assert {tuple(how.items()) for how in told} == {
        (("device", "gpu"), ("hw_decoder_load", 1.0), ("jpeg_fancy_upsampling", True))
    }
    known = backend.GetSchema("decoders__Image").GetArgumentNames()
    assert set(dali.GPU_ONLY) <= set(known)
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("engines/**/*.py")]
    assert not any("nvimgcodec" in source for source in sources)


def test_many_threads_change_neither_order_nor_pixels(everything):
    """Mixed sizes and formats, good and bad, in ragged batches through sixteen threads."""
    shards = [replace(everything, index=index) for index in range(4)]
    (whole,) = on_cpu(batch=200).stream([everything])
    decoder = open_decoder("dali", read, SQUASH, DecodeOptions(threads=16, batch=7))

    batches = list(decoder.stream(shards))

    assert [each.shard.index for each in batches] == sorted(each.shard.index for each in batches)
    assert [ref for each in batches for ref in each.refs] == list(whole.refs) * 4
    assert [fault for each in batches for fault in each.faults] == list(whole.faults) * 4
    assert [facts for each in batches for facts in each.facts] == list(whole.facts) * 4
    pixels = np.concatenate([each.pixels for each in batches])
    assert np.array_equal(pixels, np.concatenate([whole.pixels] * 4))


def test_running_out_of_memory_is_no_fault_of_the_cell(everything, monkeypatch):
    """It stops the run and says what to do; the cells are not quietly decoded elsewhere."""

    def full(codec, images):
        raise RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory")

    monkeypatch.setattr(DaliCodec, "_called", full)

    with pytest.raises(DeviceError, match="memory does not suffice for decoding") as caught:
        list(on_cpu(batch=16).stream([everything]))
    assert "--batch-size" in caught.value.hint


def test_uploaded_pieces_arrive_whole_and_apart():
    """Pieces of any length, more and more of them through one buffer, are not mixed up."""
    uploader = Uploader(HostStream())
    random = np.random.default_rng(0)

    for count in (0, 1, 5, 3, 40):
        pieces = [random.integers(0, 256, random.integers(1, 200), np.uint8) for _ in range(count)]
        arrived = uploader.upload(pieces)
        assert [each.numpy().tolist() for each in arrived] == [piece.tolist() for piece in pieces]


@pytest.mark.parametrize(
    ("size", "steep"),
    [((450, 450), False), ((6000, 6000), False), ((20_000, 10), True), ((10, 25_000), True)],
)
def test_extreme_reductions_are_kept_from_cudas_resize(size, steep):
    """Its filter would not fit the GPU's shared memory, and the run would end for one odd cell."""
    assert too_steep_for_cuda(size, (224, 224)) == steep


@pytest.mark.parametrize("size", [(21_000_000, 1), (1, 21_000_000)])
def test_a_strip_of_21_megapixels_is_resized_within_a_cells_memory(size):
    """Along its length first: the width first makes 4 GB of a tall one, at 224 pixels 14 GB."""
    dark_then_light = torch.zeros((*size, 3), dtype=torch.uint8)
    dark_then_light.view(-1, 3)[10_500_000:] = 200
    inputs = torch.zeros((1, 48, 64, 3), dtype=torch.uint8)

    with enforced(CellLimits.for_pixels(25_000_000)):
        resize_into(inputs, [dark_then_light], replace(SQUASH, filter="bilinear"))

    along = inputs[0, :, 0, 0] if size[1] == 1 else inputs[0, 0, :, 0]
    half = len(along) // 2
    assert (along[: half - 1] == 0).all()
    assert (along[half + 1 :] == 200).all()


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(30_000, 4), (4, 30_000), (13_000, 900)])
def test_extreme_cells_are_resized_on_a_gpu_too(size):
    """As on the processor, to a grey level."""
    image = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    expected = ModelInput(height=224, width=224, mean=HALF, std=HALF)
    on_gpu = torch.zeros((1, 224, 224, 3), dtype=torch.uint8, device="cuda")
    on_cpu = torch.zeros((1, 224, 224, 3), dtype=torch.uint8)

    resize_into(on_gpu, [image.cuda()], expected)
    resize_into(on_cpu, [image], expected)

    assert int((on_gpu.cpu().int() - on_cpu.int()).abs().max()) <= 1


@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear"])
@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.6])
def test_many_crops_resized_together_are_pillows_each(filter_name, fit, crop_pct):
    """Mixed sizes, resized in groups, each land where they belong, as Pillow would make them."""
    how = {"fit": fit, "crop_pct": crop_pct, "filter": filter_name}
    expected = ModelInput(height=32, width=40, **how, mean=HALF, std=HALF)
    sizes = [(90, 70), (33, 20), (90, 70), (40, 32), (1, 5), (90, 70), (200, 300)]
    crops = [draw_cell(seed, size) for seed, size in enumerate(sizes)]
    inputs = torch.zeros((len(crops), 32, 40, 3), dtype=torch.uint8)
    files = {f"{index}.png": saved(crop, "PNG") for index, crop in enumerate(crops)}
    pillow = open_decoder("pillow", lambda ref: files[ref.path], expected, DecodeOptions(batch=9))
    (reference,) = pillow.stream([Shard(0, tuple(CellRef(path, "s") for path in files))])

    resize_into(inputs, [torch.from_numpy(np.array(crop)) for crop in crops], expected)

    for ours, theirs in zip(inputs.numpy(), reference.pixels, strict=True):
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.mean() <= PIXEL_MEAN_LIMIT
        assert np.percentile(difference, 99.9) <= PIXEL_P999_LIMIT


@pytest.mark.gpu
def test_pixels_stay_on_the_gpu(everything):
    """A batch decoded there is a tensor there, and repeated runs are equal bit for bit."""
    options = DecodeOptions(device="gpu", threads=4, batch=16)
    decoder = open_decoder("dali", read, SQUASH, options)

    runs = [list(decoder.stream([everything])) for _ in range(5)]

    assert all(batch.pixels.is_cuda for batch in runs[0])
    for run in runs[1:]:
        for one, two in zip(runs[0], run, strict=True):
            assert one.facts == two.facts
            assert torch.equal(one.pixels, two.pixels)


@pytest.mark.gpu
def test_poisoned_memory_shows_in_no_pixel(everything):
    """Whatever the allocator hands out was scribbled over before, and none of it comes through."""
    options = DecodeOptions(device="gpu", threads=4, batch=16)
    decoder = open_decoder("dali", read, SQUASH, options)
    expected = [batch.host_pixels for batch in decoder.stream([everything])]

    for value in (0, 255):
        poison = [torch.full((2**20,), value, dtype=torch.uint8, device="cuda") for _ in range(64)]
        del poison
        again = [batch.host_pixels for batch in decoder.stream([everything])]
        assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))
