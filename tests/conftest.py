"""Tiny bundles and drawn cells for every test; the real cells where they are there."""

from __future__ import annotations

import logging
import os
import shutil
from functools import cache as cached
from pathlib import Path
from uuid import uuid4

import pytest
import torch
import zoo
from draw_cells import draw_cell
from hypothesis import settings
from tiny import make_bundle

from engines.decode.workers.pool import shared_pool
from engines.locations import location
from screen import options

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")

REAL_CELLS = Path(__file__).parents[2] / "shared" / "cells"


def pytest_addoption(parser):
    """Let the machine with a GPU insist on it, and whoever has the time ask for more."""
    parser.addoption("--require-gpu", action="store_true", help="fail where there is no GPU")
    parser.addoption("--long", action="store_true", help="also run what is marked long")


def pytest_collection_modifyitems(config, items):
    """Skip what this machine cannot run, each with its reason."""
    for item in items:
        if item.get_closest_marker("realcells") and not REAL_CELLS.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real cells in {REAL_CELLS}"))
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes long; --long runs it"))
        if item.get_closest_marker("gpu") and not (config.getoption("--require-gpu") or has_gpu()):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU; --require-gpu insists"))


@cached
def has_gpu():
    """Whether PyTorch can use a GPU."""
    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep compiled models of the tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SLIDESCREEN_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def decoding_threads():
    """Runs decode in threads, where tests can reach in, unless they ask for workers."""
    os.environ["SLIDESCREEN_RUN_DECODE_WORKERS"] = "0"  # for commands that tests start
    options._usual_workers = lambda *_: (0, "a test")


@pytest.fixture(scope="session")
def worker_pool():
    """One worker that stays for the session: runs that ask for one share it."""
    return shared_pool(1, "engines.decode.dali")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A tiny model of two classes, one of them positive, that knows its limits."""
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder, classes=["hem", "all"], positive="all", trusted=True)


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory):
    """A tiny model of three classes, none of them positive."""
    return make_bundle(tmp_path_factory.mktemp("three"), classes=["a", "b c", "d"], positive=None)


@pytest.fixture(scope="session")
def lasting_cells(tmp_path_factory):
    """Two slides, nine good cells of several formats and two bad ones; not to be changed."""
    folder = tmp_path_factory.mktemp("lasting") / "cells"
    for slide, names in (
        ("first", ["plain.bmp", "baseline.jpg", "rgb.png", "empty.jpg"]),
        ("second", ["lossless.webp", "lzw.tif", "exif6.jpg", "16bit.png", "flipped.png"]),
    ):
        (folder / slide).mkdir(parents=True)
        for name in names:
            (folder / slide / name).write_bytes({**zoo.good(), **zoo.bad()}[name])
    for seed in range(2):
        draw_cell(seed, (90, 70)).save(folder / "second" / f"drawn{seed}.bmp")
    return folder


@pytest.fixture
def cells(lasting_cells, tmp_path):
    """A copy of these cells."""
    return shutil.copytree(lasting_cells, tmp_path / "cells")


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on this machine (moto's), and the environment that leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of an empty bucket."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    place = location(f"s3://bucket-{uuid4().hex[:12]}")
    place.fs.mkdir(place.path)
    return str(place).rstrip("/")


@pytest.fixture(scope="session")
def real_cells():
    """The folder of real cells."""
    return REAL_CELLS
