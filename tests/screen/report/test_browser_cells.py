"""Cells in the report, in real Chromium: opened, walked through, reviewed, selected, printed."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pyarrow as pa
import pypdfium2
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_results import cell, draw, make_results
from playwright.sync_api import expect

from screen.report import ReportOptions, write_report
from screen.report.content import pictures

pytestmark = pytest.mark.usefixtures("browser")
HEADINGS = {"Result", "Slides", "Plots", "What ran", "Review", "How to read this"}
SCREENS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 380, "height": 780}, "has_touch": True},
}


def to_cell(page, name):
    """Tab to what has a name; fail if it cannot be reached."""
    for _ in range(200):
        page.keyboard.press("Tab")
        said = "document.activeElement.{}"
        alt = page.evaluate("document.activeElement.querySelector('img')?.alt ?? ''")
        if name in (alt, page.evaluate(said.format("textContent")).strip()):
            return
    pytest.fail(f"{name} cannot be reached by the keyboard")


def file_of(page, name):
    """Press a button that saves a file; return what the file is called and holds."""
    with page.expect_download() as caught:
        page.get_by_role("button", name=name).click()
    return caught.value.suggested_filename, caught.value.path().read_text(encoding="utf-8")


def test_the_overview_shows_the_cells_that_a_flag_is_about(opened, report):
    """Beside the flagged slide alone, the most suspicious first."""
    page = opened(report)

    strips = page.locator("#strips > li")
    assert strips.locator("h3").all_inner_texts() == ["b"]
    assert strips.locator(".p").all_inner_texts() == [
        "0.820", "0.800", "0.780", "0.760", "0.740", "0.720",
    ]  # fmt: skip
    assert page.get_by_role("heading", name="Slides to look at").is_visible()


def test_without_a_flag_the_first_slides_are_shown(opened, tmp_path):
    """And it is said that none is flagged; a limit alone is no flag."""
    cells = draw(tmp_path / "cells", [cell(f"a/{n}.png", "a", p=0.1) for n in range(3)])
    limits = {"a": ["too_few_cells"]}
    out = make_results(tmp_path / "out", cells, source=tmp_path / "cells", flags=limits)

    page = opened(write_report(ReportOptions(results=out)).path)

    assert page.get_by_text("No slide is flagged.").is_visible()
    assert page.locator("#strips button.thumb").count() == 3
    assert page.locator("#slide-table .flag.limit").inner_text() == "too few cells"
    assert page.locator("tr.flagged").count() == 0


def test_a_cell_is_opened_marked_and_saved_by_keyboard_alone(opened, report):
    """Tab to it, Enter, arrows to its neighbours, a key for each verdict, a note, Escape, save."""
    page = opened(report)
    to_cell(page, "Cell b/11.png, probability of leukaemic blast (all) 0.820")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Cell b/11.png")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text(
        "The whole crop at its own resolution, 90 \N{MULTIPLICATION SIGN} 70"
    )
    expect(dialog).to_contain_text("1 of 6")

    page.keyboard.press("1")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="Cell b/10.png")).to_be_visible()
    page.keyboard.press("2")
    page.keyboard.press("e")
    expect(page.locator("#cell .frame canvas")).to_be_visible()
    page.keyboard.press("s")
    to_cell(page, "4 Unsure")
    page.keyboard.press("Tab")
    page.keyboard.type('a "smudge", 1 of 2 es')
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    focused = page.evaluate("document.activeElement.dataset.cell")
    assert focused == page.locator("#strips button.thumb").nth(1).get_attribute("data-cell")
    to_cell(page, "Save review.csv")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")

    rows = list(csv.DictReader(io.StringIO(caught.value.path().read_text(encoding="utf-8"))))
    assert caught.value.suggested_filename == "review.csv"
    kept = [[row[name] for name in ("path", "verdict", "label", "note")] for row in rows]
    assert kept == [
        ["b/11.png", "agree", "all", ""],
        ["b/10.png", "disagree", "hem", 'a "smudge", 1 of 2 es'],
    ]
    assert {row["slide"] for row in rows} == {"b"}
    assert file_of(page, "Save list of paths") == ("paths.txt", "b/10.png\n")


def test_a_mark_given_twice_is_taken_back(opened, report):
    """And counted as a change that is not saved."""
    page = opened(report)
    page.locator("#strips button.thumb").first.click()

    agree = page.get_by_role("button", name="1 Agree")
    agree.click()
    expect(agree).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("1")
    expect(agree).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Escape")

    expect(page.locator("#tally")).to_have_text("2 changes not saved yet")
    file_of(page, "Save review.csv")
    expect(page.locator("#desk")).to_be_hidden()


def test_a_review_comes_back(opened, drawn_cells, tmp_path):
    """What the page saved, reported with --review: marks, notes, tally, agreement."""
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path / "cells")
    page = opened(write_report(ReportOptions(results=out)).path)
    page.locator("#strips button.thumb").first.click()
    for key in "12334":
        page.keyboard.press(key)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    _, text = file_of(page, "Save review.csv")
    review = tmp_path / "review.csv"
    review.write_text(text, encoding="utf-8")

    done = write_report(ReportOptions(results=out, review=review))
    page = opened(done.path)

    expect(page.locator("#tally")).to_have_text(
        "5 cells reviewed: 1 agree, 1 disagree, 2 artefact, 1 unsure"
    )
    assert page.locator("#strips .mark").all_inner_texts()[:2] == [
        "agree",
        "disagree",
    ]
    assert "1 of 2, 50.0% (9.5% to 90.5%; Wilson" in done.review
    assert done.review.partition("class ")[2] in page.locator("#main").inner_text()
    assert file_of(page, "Save review.csv") == ("review.csv", text)


def test_a_cell_is_in_one_gallery_and_names_the_others(opened, forty, tmp_path):
    """No path twice on a slide's page; what is above is counted."""
    cells = draw(tmp_path / "cells", forty)
    out = make_results(tmp_path / "out", cells, source=tmp_path / "cells")
    page = opened(write_report(ReportOptions(results=out)).path)

    page.evaluate("location.hash = '#slide-0'")
    paths = page.locator("#slide-content .path").all_inner_texts()
    assert len(paths) == len(set(paths)) > 10
    strange = page.locator("section", has=page.locator("#gallery-strange")).last
    assert re.search(r"\d+ more are shown above", strange.inner_text())
    page.locator("#slide-content button.thumb").first.click()
    expect(page.locator("#cell-said")).to_contain_text("also among: most uncertain, least like")


def test_a_point_of_a_plot_leads_to_its_cell(opened, report):
    """By mouse where the point is; by keyboard with the slider, from left to right."""
    page = opened(report)
    chart = page.locator("#chart-scatter svg")
    chart.scroll_into_view_if_needed()
    dot = chart.locator("g[stroke-width], g[fill]").locator("circle").first
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#cell-place")).to_contain_text("of 20 points of the plot")
    page.keyboard.press("Escape")

    slider = page.get_by_label("Point, from left to right")
    slider.focus()
    slider.press("End")
    expect(page.locator("#point-name")).to_have_text("b/11.png")  # focus is 5 times the probability
    assert slider.get_attribute("aria-valuetext").startswith("Cell b/11.png, probability")
    page.get_by_role("button", name="Open its cell").press("Enter")
    expect(page.get_by_role("dialog", name="Cell b/11.png")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog", name="Cell b/10.png")).to_be_visible()


def test_a_point_of_the_shares_leads_to_its_slide(opened, report):
    """Where the pointer is near it."""
    page = opened(report)
    chart = page.locator("#chart-shares svg")
    chart.scroll_into_view_if_needed()
    box = chart.locator("circle").last.bounding_box()

    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.click(box["x"] + 4, box["y"] + 4)

    expect(page.get_by_role("heading", level=2, name="Slide b")).to_be_visible()


def test_a_phone_keeps_flags_and_share_in_sight(opened, report):
    """Within the screen's width, for every slide, without scrolling sideways."""
    page = opened(report, **SCREENS["phone"])

    for row in page.locator("#slide-table tbody tr").all():
        for part in row.locator("th, .flag, td.share span").all():
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 380
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.locator("#strips button.thumb").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_no_violation(opened, report, screen):
    """On the overview, a slide's page and a cell, in light, dark and on a phone."""
    page = opened(report, **SCREENS[screen])
    axe = Axe()

    def violations():
        return [
            (each["id"], [node["html"][:120] for node in each["nodes"]])
            for each in axe.run(page).response["violations"]
        ]

    assert violations() == []
    page.evaluate("location.hash = '#slide-0'")
    expect(page.get_by_role("heading", level=2, name="Slide b")).to_be_visible()
    assert violations() == []
    page.locator("#slide-content button.thumb").first.click()
    page.keyboard.press("1")
    assert violations() == []


def test_it_prints_every_flagged_slide_with_pictures(opened, tmp_path):
    """On white, without the controls, no heading alone at the foot of a page."""
    cells = [cell(f"s{n:02}/{m}.png", f"s{n:02}", p=0.7) for n in range(14) for m in range(2)]
    draw(tmp_path / "cells", cells)
    out = make_results(tmp_path / "out", cells, source=tmp_path / "cells")
    page = opened(write_report(ReportOptions(results=out)).path, color_scheme="dark")
    assert page.locator("#strips > li:visible").count() == 12
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#controls").is_hidden()
    assert page.locator("#strips > li:visible").count() == 14

    document = pypdfium2.PdfDocument(page.pdf(format="A4"))

    lines = [sheet.get_textpage().get_text_range().split("\n") for sheet in document]
    last = [[line.strip() for line in sheet if line.strip()][-1] for sheet in lines]
    assert not HEADINGS & set(last)
    images = [
        each
        for sheet in document
        for each in sheet.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=9)
    ]
    assert len(images) >= len(cells)
    tables = [sheet for sheet in lines if any("s00" in line for line in sheet)]
    assert tables


def test_nearest_cells_are_shown_where_results_hold_embeddings(opened, tmp_path, monkeypatch):
    """The nearest first, each opens; a cell is not near itself."""
    cells = draw(tmp_path / "cells", [cell(f"a/{n}.png", "a", p=0.5 + n / 40) for n in range(9)])
    for n, each in enumerate(cells):
        each["embedding"] = np.array([n * n, 1.0]).tolist()
    extra = [pa.field("embedding", pa.list_(pa.float32(), 2))]
    out = make_results(tmp_path / "out", cells, source=tmp_path / "cells", extra=extra)
    page = opened(write_report(ReportOptions(results=out)).path)

    page.locator("#strips button.thumb").last.click()  # a/3.png, at 9
    near = page.locator("#cell-near-list button.thumb img")
    assert [each.get_attribute("alt").split(",")[0] for each in near.all()] == [
        f"Cell a/{n}.png" for n in (2, 4, 1, 0, 5, 6)
    ]
    near.first.click()
    expect(page.get_by_role("dialog", name="Cell a/2.png")).to_be_visible()


def test_a_picture_made_smaller_says_so(opened, drawn_cells, tmp_path, monkeypatch):
    """In the cell's view, with the crop's own size."""
    monkeypatch.setattr(pictures, "LEAST_WHOLE", 0)
    monkeypatch.setattr(pictures, "SPARE", 1e9)
    monkeypatch.setattr(pictures, "EDGES", ((10**9, 30),))
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path / "cells")

    page = opened(write_report(ReportOptions(results=out)).path)
    page.locator("#strips button.thumb").first.click()

    expect(page.locator("#cell-resolution")).to_have_text(
        "The whole crop, made smaller to save space; it has 90 \N{MULTIPLICATION SIGN} 70 pixels."
    )
