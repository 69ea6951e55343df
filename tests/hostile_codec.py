"""A decoder for tests of workers: its codec does to its process what a cell's bytes say."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from engines.cells import Batch, Fault
from engines.decode.checks import decoded_cell, opened_cell
from engines.decode.pillow import PillowCodec
from engines.decode.prefetch import PrefetchingDecoder


class HostileCodec(PillowCodec):
    """Pillow, but for cells that say what to do."""

    def open(self, data):
        """Do it, or read the header."""
        deed = DEEDS.get(bytes(data[:8]).rstrip())
        if deed is not None:
            deed()
        return super().open(data)


def spin():
    """Use processor time for ever."""
    while True:
        pass


def hold():
    """Take 3 GB of memory."""
    return len(bytearray(3 * 2**30))


DEEDS = {
    b"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"abort": os.abort,
    b"exit": lambda: os._exit(3),
    b"spin": spin,
    b"hold": hold,
    b"sleep": lambda: time.sleep(600),
}


class HostileDecoder(PrefetchingDecoder):
    """Decodes without PyTorch, so that a new worker is there at once."""

    name, version = "hostile", "1"

    def decode_batch(self, shard, refs):
        """Decode cell by cell."""
        codec = HostileCodec(self.expected)
        good, faults = [], []
        for ref in refs:
            cell = opened_cell(ref, codec, self.read, self.options.max_pixels)
            found = cell if isinstance(cell, Fault) else decoded_cell(cell)
            if isinstance(found, Fault):
                faults.append(found)
            else:
                image = codec.resize(found[0], self.expected.height, self.expected.width)
                good.append((ref, found[1], image))
        size = (len(good), self.expected.height, self.expected.width, 3)
        pixels = np.array([image for _, _, image in good], np.uint8).reshape(size)
        refs, facts = ([row[n] for row in good] for n in (0, 1))
        return Batch(shard, tuple(refs), tuple(facts), pixels, tuple(faults))


def open_decoder(read, expected, options):
    """Open it."""
    return HostileDecoder(read, expected, options)


class Files:
    """Reads from a dictionary, in any process."""

    def __init__(self, files):
        """Keep them."""
        self.files = files

    def __call__(self, ref):
        """Read one."""
        if ref.path not in self.files:
            raise FileNotFoundError(2, "No such file or directory")
        return self.files[ref.path]


class Broken:
    """Reads nothing: it has a bug."""

    def __call__(self, ref):
        """Fail."""
        raise ZeroDivisionError(ref.path)


class Named:
    """Reads nothing: it says what the environment holds."""

    def __call__(self, ref):
        """Fail."""
        raise FileNotFoundError(2, os.environ["SLIDESCREEN_TEST_CELL"], ref.path)
