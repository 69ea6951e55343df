"""Damaged images: never a crash, never a neighbour, never fine where Pillow refuses them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import zoo
from faults.mutants import mutants

from engines.backends import open_decoder
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.models.input import ModelInput
from engines.registry import REFERENCE_DECODER, decoder_names

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of much that it refuses

INPUT = ModelInput(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
OPTIONS = DecodeOptions(batch=16, threads=2, max_pixels=1_000_000)
GOOD = "baseline.jpg"
EVERY = 8  # each so many cells there is a good one


def files(how_many):
    """Return mutants of every kind of file by name, with good ones among them."""
    found = {}
    sources = {**zoo.good(), **zoo.bad()}
    for seed, (name, data) in enumerate(sorted(sources.items())):
        for number, (what, wrong) in enumerate(mutants(data, how_many(1, 600), seed)):
            found[f"{name}/{number} {what}"] = wrong
    names = sorted(found)
    random.Random(0).shuffle(names)
    mixed = {}
    for number, name in enumerate(names):
        if number % EVERY == 0:
            mixed[f"{GOOD}/{number} whole"] = zoo.good()[GOOD]
        mixed[name] = found[name]
    return mixed


def decoded(decoder, data):
    """Return the pixels of what was decoded and the status of what was not, by path."""
    opened = open_decoder(decoder, lambda ref: data[ref.path], INPUT, OPTIONS)
    shard = Shard(0, tuple(CellRef(path, "slide") for path in data))
    pixels, faults = {}, {}
    for batch in opened.stream([shard]):
        pixels |= {
            ref.path: image for ref, image in zip(batch.refs, batch.host_pixels, strict=True)
        }
        faults |= {fault.ref.path: fault.status for fault in batch.faults}
    return pixels, faults


@pytest.fixture(scope="module")
def mutated(request):
    """The files, and what the reference makes of them."""
    long = request.config.getoption("--long")
    data = files(lambda few, many: many if long else few)
    return data, decoded(REFERENCE_DECODER, data)


@pytest.mark.parametrize("decoder", decoder_names())
def test_every_cell_comes_out_once_and_no_neighbour_changes(mutated, decoder):
    """Whatever lies beside it."""
    data, _ = mutated
    pixels, faults = decoded(decoder, data)
    alone, _ = decoded(decoder, {GOOD: zoo.good()[GOOD]})

    assert pixels.keys() | faults.keys() == data.keys()
    assert not pixels.keys() & faults.keys()
    for path in (path for path in data if path.endswith(" whole")):
        assert np.array_equal(pixels[path], alone[GOOD]), path


@pytest.mark.parametrize("decoder", [name for name in decoder_names() if name != REFERENCE_DECODER])
def test_nothing_is_fine_that_the_reference_refuses(mutated, decoder):
    """And the other way round: one rule says what is damaged."""
    data, (_, refused) = mutated
    _, faults = decoded(decoder, data)

    assert faults.keys() == refused.keys()  # "oversized" for "undecodable" may be either's word
