"""The report in real Chromium: by mouse, by keyboard, in the dark, on paper."""

from __future__ import annotations

import pytest
from made_results import HEIGHT, WIDTH, cell, draw, fault, make_results
from playwright.sync_api import expect

from screen.report import ReportOptions, write_report

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"

pytestmark = pytest.mark.usefixtures("browser")


def listed(page):
    """Return the slides in view, in order."""
    return page.locator("#slide-table tbody tr:visible th").all_inner_texts()


def test_slides_sort_by_mouse_and_keyboard(opened, report):
    """Numbers begin with the largest; a second time turns it round; readers are told."""
    page = opened(report)
    assert listed(page) == ["b", "a", "c"]

    head = page.locator("#slide-table th", has_text="Cells")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert listed(page) == ["b", "a", "c"]
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert listed(page) == ["c", "a", "b"]

    page.locator("#slide-table").get_by_role("button", name="Share of").press("Space")
    assert listed(page) == ["b", "a", "c"]
    page.locator("#slide-table").get_by_role("button", name="Share of").press("Space")
    assert listed(page) == ["a", "b", "c"]
    assert page.locator("#slide-table [aria-sort=ascending]").count() == 1


def test_slides_are_found_by_name_and_flag(opened, report):
    """What is left is counted, aloud."""
    page = opened(report)

    page.get_by_label("Find").fill("ABOVE the thr")
    assert listed(page) == ["b"]
    expect(page.locator("#listed")).to_have_text("1 of 3 slides")
    page.get_by_label("Find").fill("")
    page.get_by_label("Flagged only").check()
    assert listed(page) == ["b"]
    page.get_by_label("Flagged only").uncheck()
    expect(page.locator("#listed")).to_have_text("3 slides")


def test_a_slide_opens_by_a_click_anywhere_on_its_row(opened, report):
    """With its figures and its cells, best first."""
    page = opened(report)

    page.locator("#slide-table tbody tr").first.locator("td").nth(1).click()

    expect(page.get_by_role("heading", level=2, name="Slide b")).to_be_focused()
    assert page.get_by_role("heading", level=1).count() == 1
    suspicious = page.locator("section", has_text="Most suspicious").last
    assert suspicious.locator(".p").all_inner_texts()[:2] == [
        "0.820 leukaemic blast (all)",
        "0.800 leukaemic blast (all)",
    ]
    assert page.locator("#chart-slide svg[role=img]").count() == 1
    assert page.locator("#overview").is_hidden()


def test_slides_are_walked_through_by_keyboard_alone(opened, report):
    """Enter opens, Next follows the table as it is sorted, Back returns to the slide's link."""
    page = opened(report)
    page.locator("#slide-table th", has_text="Slide").get_by_role("button").press("Enter")
    assert listed(page) == ["a", "b", "c"]

    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.textContent") != "a":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2, name="Slide a")).to_be_focused()
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").press("Enter")
    expect(page.get_by_role("heading", level=2, name="Slide b")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=2, name="Slide a")).to_be_focused()
    page.get_by_role("link", name="All slides").press("Enter")
    expect(page.locator("#slide-table").get_by_role("link", name="a")).to_be_focused()


def test_cells_that_could_not_be_scored_are_named_with_the_reason(opened, report):
    """In a slide of nothing else, too."""
    page = opened(report)

    page.get_by_role("link", name="c", exact=True).click()

    row = page.locator("#slide-content table tbody tr").first
    assert row.locator("th, td").all_inner_texts() == ["c/0.png", "undecodable", "cut short"]
    assert page.locator("#slide-content img").count() == 0


def test_evidence_is_switched_for_one_cell_and_for_all(opened, report):
    """By button, pressed or not; each picture says what it is."""
    page = opened(report)
    page.locator("#slide-table").get_by_role("link", name="a", exact=True).click()
    thumbs = page.locator("#slide-content button.thumb")
    assert thumbs.count() == 8

    thumbs.first.press("Enter")
    own = page.get_by_role("button", name="Evidence", exact=True)
    own.press("Enter")
    expect(own).to_have_attribute("aria-pressed", "true")
    assert page.locator("canvas").count() == 1
    page.keyboard.press("Escape")
    every = page.get_by_role("button", name="Show evidence on all cells")
    every.click()
    expect(every).to_have_attribute("aria-pressed", "true")
    assert page.locator("#slide-content canvas").count() == thumbs.count()
    every.click()
    assert page.locator("#slide-content canvas").count() == 0
    expect(thumbs.first.locator("img")).to_have_attribute(
        "alt", "Cell a/8.png, probability of leukaemic blast (all) 0.400"
    )
    assert page.get_by_text(
        "it is not an outline of the cell and does not explain why"
    ).is_visible()


def test_evidence_lies_on_the_picture_as_the_model_saw_it(opened, made, geometry):
    """Squashed: just on the picture; padded, 90 x 70: beyond it; a centre crop: on its middle."""
    fit, crop_pct, *sides = geometry
    page = opened(made(fit, crop_pct))
    page.locator("#strips button.thumb").first.click()
    page.keyboard.press("e")

    picture = page.locator("#cell .frame img").bounding_box()
    overlay = page.locator("#cell .frame canvas").bounding_box()

    wide, high = overlay["width"] / picture["width"], overlay["height"] / picture["height"]
    assert (wide, high) == pytest.approx(sides, abs=0.03)
    for start, side in (("y", "height"), ("x", "width")):
        middle = picture[start] + picture[side] / 2
        half_an_input_pixel = picture[side] / 40  # of 25 rows of padded input, 3 above, 4 below
        assert overlay[start] + overlay[side] / 2 == pytest.approx(middle, abs=half_an_input_pixel)
    assert picture["width"] / picture["height"] == pytest.approx(90 / 70, abs=0.05)


def test_evidence_has_the_colour_of_its_sign(opened, report):
    """Row by row from the top left: against, then nothing, then more and more for."""
    page = opened(report)
    page.locator("#strips button.thumb").first.click()
    page.keyboard.press("e")

    pixels = page.locator("canvas").first.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )

    red, _, blue, alpha = (pixels[part::4] for part in range(4))
    assert len(alpha) == HEIGHT * WIDTH
    assert blue[0] > red[0]
    assert red[-1] > blue[-1]
    assert alpha[-1] > alpha[-2] > alpha[-3] > alpha[4]


def test_every_plot_is_drawn_and_says_what_it_is(opened, report):
    """Shares, histogram, reliability and scatter; the scatter's measure can be chosen."""
    page = opened(report)

    labels = [
        chart.get_attribute("aria-label") for chart in page.locator(".chart > svg[role=img]").all()
    ]
    assert [label.partition(" ")[0] for label in labels] == [
        "Share",
        "Histogram",
        "Reliability",
        "20",
    ]
    page.get_by_label("Across").select_option("stain_shift")
    expect(page.locator("#chart-scatter")).to_contain_text("stain shift")


def test_everything_has_a_name_for_who_does_not_see_it(opened, report):
    """Buttons, pictures, columns, regions, language, title."""
    page = opened(report)
    page.locator("#slide-table").get_by_role("link", name="a", exact=True).click()

    nameless = page.evaluate("""() => [
        ...[...document.querySelectorAll('button, a')].filter((e) =>
            !(e.textContent.trim() || e.getAttribute('aria-label') || e.querySelector('[alt]'))),
        ...document.querySelectorAll('img:not([alt]), th:not([scope]), html:not([lang])'),
        ...[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length),
    ].map((e) => e.outerHTML)""")

    assert nameless == []
    assert page.title() == "Screening report: cells"


def test_dark_and_narrow_screens_are_served(opened, report):
    """The paper is dark, plots follow, and the page is no wider than the screen."""
    light, dark = opened(report), opened(report, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(paper) == "rgb(255, 255, 255)"
    assert sum(map(int, dark.evaluate(paper)[4:-1].split(","))) < 120

    narrow = opened(report, viewport={"width": 380, "height": 800})
    for _ in range(2):
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 380
        narrow.evaluate("document.querySelector('#slide-table a').click()")


def test_without_scripts_the_tables_are_there(opened, report):
    """And the page says what is missing."""
    page = opened(report, java_script_enabled=False)

    assert listed(page) == ["b", "a", "c"]
    assert "Scripts are off" in page.locator("noscript").text_content()


def test_nothing_hostile_runs(opened, tmp_path):
    """Script in the names of files, slides, flags and errors is text, wherever it is shown."""
    folder = tmp_path / f"cells {HOSTILE.replace('/', '_')}"
    cells = [
        cell(f"s{n}/x </script><script>window.hacked = 3<!--{n}.png", HOSTILE) for n in range(3)
    ]
    draw(folder, cells)
    cells += [fault("f \u2028`${window.hacked = 4}`.png", HOSTILE, error=HOSTILE)]
    out = make_results(tmp_path / "out", cells, source=folder)
    page = opened(write_report(ReportOptions(results=out)).path)

    page.locator("#slide-table").get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=2, name=HOSTILE)).to_be_focused()
    page.get_by_role("button", name="Show evidence on all cells").click()

    assert page.evaluate("window.hacked") is None
    assert page.locator("#slide-content .path").first.inner_text() == cells[0]["path"]
    assert page.locator("#slide-content td", has_text="window.hacked").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
