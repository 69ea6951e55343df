"""Damage: bytes as disks, programs and people spoil them, and JSON of other types."""

from __future__ import annotations

import json
import random

__all__ = ["json_mutants", "mutants", "regions"]

WRONG = (None, True, -1, 0, 2**70, 1e308, float("nan"), "", "x" * 300, [], [None], {}, {"a": []})


def mutants(data, count, seed, others=()):
    """
    Yield *count* spoilt copies of some bytes, each with the name of what was done.

    Args:
        data: What is spoilt.
        count: How many copies.
        seed: The same seed gives the same copies.
        others: Whole files that may take its place.
    """
    rng = random.Random(seed)
    kinds = [flipped, zeroed, scrambled, cut, grown, doubled, emptied, lines_lost]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        if others and number % 17 == 16:
            yield "swapped", rng.choice(others)
        else:
            yield kind.__name__, kind(data, rng)


def regions(data, count):
    """Yield copies with one bit flipped in each of *count* equal regions, first and last byte."""
    places = {0, len(data) - 1, *(len(data) * part // count for part in range(count))}
    for place in sorted(place for place in places if 0 <= place < len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 0x10
        yield f"bit {place}", bytes(spoilt)


def flipped(data, rng):
    """Flip one bit to eight."""
    spoilt = bytearray(data)
    for _ in range(rng.randint(1, 8) if data else 0):
        spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def zeroed(data, rng):
    """Lose a block, as a disk does: zeros in its place."""
    start, length = rng.randrange(len(data) + 1), rng.choice([1, 16, 512, 4096])
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def scrambled(data, rng):
    """Overwrite some bytes with any."""
    start, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 64])
    return data[:start] + rng.randbytes(length) + data[start + length :]


def cut(data, rng):
    """Keep the beginning."""
    return data[: rng.randrange(len(data) + 1)]


def grown(data, rng):
    """Put something behind."""
    return data + rng.randbytes(rng.choice([1, 100, 5000]))


def doubled(data, rng):
    """Repeat a piece."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start : start + 64] * 2 + data[start + 64 :]


def emptied(data, rng):
    """Leave nothing, or one byte of something."""
    return data[: rng.choice([0, 1])]


def lines_lost(data, rng):
    """Leave out a line, of whatever is a line."""
    lines = data.splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def json_mutants(text, count, seed):
    """Yield copies of a JSON object in which one value, at any depth, is of another type."""
    rng = random.Random(seed)
    places = list(_places(json.loads(text)))
    for _ in range(count):
        spoilt = json.loads(text)
        place = rng.choice(places)
        inside = spoilt
        for step in place[:-1]:
            inside = inside[step]
        name = ".".join(map(str, place))
        if rng.random() < 0.25:
            del inside[place[-1]]
            yield f"{name} lost", json.dumps(spoilt).encode()
        else:
            inside[place[-1]] = value = rng.choice(WRONG)
            yield f"{name} = {str(value)[:20]}", json.dumps(spoilt).encode()


def _places(value, place=()):
    """Yield the way to every value of a JSON object."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in pairs:
        yield (*place, name)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*place, name))
