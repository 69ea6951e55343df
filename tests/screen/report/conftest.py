"""A small results folder with pictures, and its report."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from made_results import cell, draw, fault, make_results
from playwright.sync_api import sync_playwright

from screen.report import ReportOptions, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture
def reported(tmp_path):
    """Make results of cells, write their report, and return the text of the page."""

    def call(cells, *, labels=None, source=None, **made):
        out = make_results(tmp_path / "results", cells, source=tmp_path / "cells", **made)
        done = write_report(ReportOptions(results=out, labels=labels, source=source))
        return done.path.read_text(encoding="utf-8")

    return call


@pytest.fixture
def drawn_cells(tmp_path):
    """Twelve cells of two slides, one of them undecodable, drawn."""
    cells = [cell(f"a/{n}.png", "a", p=0.05 + 0.08 * n) for n in range(11)]
    return draw(tmp_path / "cells", [*cells, fault("b/0.png", "b")])


@pytest.fixture
def data():
    """Read the JSON that a page's script draws from."""

    def read(page):
        return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])

    return read


@pytest.fixture
def forty(tmp_path):
    """Forty cells of three slides in random order of probability, a few not scored."""
    random = np.random.default_rng(3)
    cells = [
        fault(f"s{n % 3}/{n}.png", f"s{n % 3}")
        if n % 11 == 0
        else cell(f"s{n % 3}/{n}.png", f"s{n % 3}", p=float(random.uniform(0.01, 0.99)))
        for n in range(40)
    ]
    return sorted(cells, key=lambda each: each["path"])


@pytest.fixture(scope="session")
def browser():
    """Start Chromium once."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a file; at the end, the page must have fetched nothing else and reported no error."""
    contexts, said, fetched = [], [], []

    def call(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        return page

    yield call
    for context in contexts:
        context.close()
    assert said == []
    outside = [url for url in fetched if not url.startswith(("file:", "data:", "about:"))]
    assert len([url for url in fetched if url.startswith("file:")]) == len(contexts)
    assert outside == []


@pytest.fixture(
    scope="module",
    params=[("squash", 1.0, 1, 1), ("pad", 1.0, 1, 32 / 25), ("squash", 0.5, 44 / 90, 36 / 70)],
    ids=["squash", "pad", "middle"],
)
def geometry(request):
    """Each way in which crops become input: fit, crop_pct, width and height of the overlay."""
    return request.param


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Write a report of three slides, the last without a scored cell; all cells are drawn."""

    def call(fit="squash", crop_pct=1.0):
        folder = tmp_path_factory.mktemp("report")
        cells = [cell(f"b/{n}.png", "b", p=0.6 + 0.02 * n) for n in range(12)]
        cells += [cell(f"a/{n}.png", "a", p=0.05 * n) for n in range(1, 9)]
        draw(folder / "cells", cells)
        cells += [fault(f"c/{n}.png", "c", error="cut short") for n in range(3)]
        source = folder / "cells"
        out = make_results(folder / "results", cells, source=source, fit=fit, crop_pct=crop_pct)
        labels = folder / "labels.csv"
        labels.write_text("path,label\n" + "".join(f"b/{n}.png,all\n" for n in range(9)))
        return write_report(ReportOptions(results=out, labels=str(labels))).path

    return call


@pytest.fixture(scope="session")
def report(made):
    """One report for all tests that need no other."""
    return made()
