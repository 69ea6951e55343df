"""The page as a whole: what it says, what it shows, and what it never does."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from made_results import HEIGHT, WIDTH, cell, draw, fault, make_results
from PIL import Image

from engines.errors import ResultsError, SourceError
from screen.report import ReportOptions, build, write_report
from screen.report.formatting import LONGEST
from screen.results.discard import discardable
from screen.results.folder import ResultsFolder, is_report

HOSTILE = "<script>alert(1)</script>"


def test_the_page_says_what_ran_and_what_came_out(reported, drawn_cells):
    """Counts, drift, warnings, model, engine, parity, rates and the notice."""
    page = reported(drawn_cells)

    assert page.count("Colours are paler than in training.") == 1
    for said in (
        "For research use only",
        "Called leukaemic blast (all)",
        "differs from training",
        "Take care.",
        "1 cell could not be scored and is left out of every share.",
        "agrees with FP32 PyTorch on 8 of your cells",
        "40.0 end to end",
        (
            "test looking for leukaemic blast (all), called at a calibrated probability of "
            "0.400 or above; "
            "computed by torch in fp32; decoded by pillow; parity with PyTorch and Pillow: agrees; "
            "sets at 95% coverage; 40.0 cells/s end to end"
        ),
        "corrected for the model&#39;s error (Rogan-Gladen)",
        "at 95% coverage",
        "leukaemic blast (all) measured 94.0%, at least 90.0% for a new subject",
    ):
        assert said in page


def test_pictures_are_those_of_the_cells_they_stand_by(reported, drawn_cells, data, tmp_path):
    """Each thumbnail is its own cell's file, shrunk, its proportions kept."""
    page = data(reported(drawn_cells))

    assert len(page["cells"]) == 11
    for shown in page["cells"]:
        file = io.BytesIO(base64.b64decode(shown["image"].partition(",")[2]))
        small = Image.open(file).convert("RGB")
        whole = Image.open(tmp_path / "cells" / shown["path"]).convert("RGB")
        difference = np.asarray(small, float) - np.asarray(whole.resize(small.size), float)
        assert np.abs(difference).mean() < 8
        assert (shown["size"], shown["whole"], small.size) == ([90, 70], True, (90, 70))


def test_probabilities_and_evidence_are_those_of_the_cell(reported, drawn_cells, data):
    """As in the tables, evidence to a step of its scale."""
    page = data(reported(drawn_cells))

    rows = {each["path"]: each for each in drawn_cells}
    assert page["grid"] == [HEIGHT, WIDTH]
    for shown in page["cells"]:
        row = rows[shown["path"]]
        levels = np.frombuffer(base64.b64decode(shown["map"]), np.int8) / 127
        assert shown["p"] == pytest.approx(row["prob_all"], abs=1e-4)
        expected = np.clip(row["evidence"], -page["evidenceScale"], page["evidenceScale"])
        assert levels * page["evidenceScale"] == pytest.approx(expected, abs=0.02)


def test_a_file_that_changed_is_not_shown_as_the_one_screened(
    reported, drawn_cells, data, tmp_path
):
    """Nor one that went; both are said."""
    (tmp_path / "cells/a/3.png").write_bytes((tmp_path / "cells/a/4.png").read_bytes())
    (tmp_path / "cells/a/5.png").unlink()

    page = reported(drawn_cells)

    shown = {each["path"]: each for each in data(page)["cells"]}
    assert "image" not in shown["a/3.png"]
    assert shown["a/3.png"]["why"] == "file changed since it was screened"
    assert shown["a/5.png"]["why"] == "file gone"
    assert (
        "1 cell is shown without a picture because the file is not the one that was screened."
        in page
    )
    assert "1 cell is shown without a picture because the file cannot be read any more." in page


def test_without_the_folder_cells_are_listed_and_it_is_said_once(
    reported, drawn_cells, data, tmp_path
):
    """The page names the folder that is gone and how to say where it is."""
    (tmp_path / "cells").rename(tmp_path / "moved")

    page = reported(drawn_cells)

    assert {each["why"] for each in data(page)["cells"]} == {"file gone"}
    assert page.count("cannot be found") == 1


def test_a_folder_that_moved_may_be_named(reported, drawn_cells, data, tmp_path):
    """Then there are pictures again."""
    (tmp_path / "cells").rename(tmp_path / "moved")

    page = data(reported(drawn_cells, source=tmp_path / "moved"))

    assert all(each["image"] for each in page["cells"])


def test_a_folder_named_that_is_not_there_is_an_error(reported, drawn_cells, tmp_path):
    """It was asked for by name."""
    with pytest.raises(SourceError):
        reported(drawn_cells, source=tmp_path / "nowhere")


def test_pictures_stop_where_the_file_would_grow_too_large(
    drawn_cells, data, tmp_path, monkeypatch
):
    """What is beyond the budget has no picture; the page says of how many cells."""
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path / "cells")
    whole = write_report(ReportOptions(results=out))
    pictures = [len(each["image"]) for each in data(whole.path.read_text())["cells"]]
    monkeypatch.setattr(build, "MOST_BYTES", whole.size - sum(pictures[6:]))

    done = write_report(ReportOptions(results=out))

    page = done.path.read_text()
    shown = data(page)["cells"]
    assert done.size < whole.size
    assert [each for each in shown if "image" in each] == shown[: done.pictures.drawn]
    assert 4 <= done.pictures.drawn <= 6
    assert (
        f"{done.pictures.left_out} cells are shown without a picture to keep this report small."
        in page
    )


def test_the_same_results_give_the_same_bytes(drawn_cells, tmp_path):
    """However often, and wherever they lie."""
    pages = []
    for name in ("one", "two"):
        out = make_results(tmp_path / name, drawn_cells, source=tmp_path / "cells")
        for _ in range(2):
            done = write_report(ReportOptions(results=out))
            pages.append(done.path.read_bytes())

    assert len(set(pages)) == 1


def test_hostile_names_are_text_everywhere(reported, data, tmp_path):
    """In paths, slides, errors and flags; the page holds no script but its own."""
    cells = [
        cell(f"{HOSTILE}/<img src=x onerror=alert(1)>.png", f"slide {HOSTILE}", p=0.9),
        fault("b/\u2028<!--.png", "b", error=HOSTILE),
    ]
    page = reported(cells)

    assert HOSTILE not in page
    assert "<img" not in page
    assert "\u2028" not in page
    assert page.count("<script") == page.count("</script>") == 10
    assert data(page)["slides"][0]["name"] == f"slide {HOSTILE}"


def test_the_policy_allows_exactly_the_scripts_that_are_there(reported, drawn_cells):
    """By hash; nothing is fetched from anywhere, and no address of the net is in our own text."""
    page = reported(drawn_cells)

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts]
    assert policy.startswith("default-src 'none'; script-src ")
    assert re.findall(r"'sha256-([^']*)'", policy) == [each.decode() for each in hashes]
    assert "img-src data:;" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "http" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL).replace(
        "http-equiv", ""
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"trust": False}, "No uncertainty and no distance from the training data"),
    ],
)
def test_what_is_not_known_is_said(reported, drawn_cells, data, made, said):
    """Results of an earlier version, or of a bundle without trust data, still make a page."""
    page = reported(drawn_cells, **made)

    assert said in page
    assert "takes cells as independent" in page
    assert "No plot of distance from training" in page
    assert "strange" not in [words["key"] for words in data(page)["galleries"]]
    assert all(each["image"] for each in data(page)["cells"])


def test_labels_add_what_they_tell(reported, drawn_cells, tmp_path):
    """Accuracy, confusion, reliability, results by slide; cells without a label are counted."""
    (tmp_path / "labels.csv").write_text("path,label\na/0.png,hem\na/10.png,all\na/1.png,all\n")

    page = reported(drawn_cells, labels=str(tmp_path / "labels.csv"))

    assert "Against the labels" in page
    assert re.search(r"3 scored cells with a label of .*\s9 cells without a label", page)
    assert "66.7% (too few slides for an interval)" in page
    assert "chart-reliability" in page
    assert "labelled leukaemic blast (all)" in page


def test_slides_of_people_trained_on_are_marked_and_left_out(reported, drawn_cells, tmp_path):
    """In the table, on the slide's own page, and beside the figures against labels."""
    drawn_cells += draw(tmp_path / "cells", [cell("h3/0.png", "h3", p=0.9)])
    (tmp_path / "labels.csv").write_text("path,label\na/0.png,hem\na/1.png,all\nh3/0.png,all\n")

    page = reported(drawn_cells, labels=str(tmp_path / "labels.csv"), trained_on=("h3",))

    assert page.count('<span class="flag limit">trained on</span>') == 1
    assert "1 slide is named like a person whom the model was trained on (h3)" in page
    assert "named like a person whom the model was trained on: if it is the same person" in page
    accuracy = re.search(r"Accuracy of the predicted class.*?</tr>", page, re.DOTALL)[0]
    assert re.findall(r"[\d.]+%", accuracy) == ["66.7%", "50.0%"]


def test_too_few_cells_is_no_reason_to_look(drawn_cells, tmp_path):
    """It limits the figures, as the page explains, and is not counted among slides to look at."""
    out = make_results(
        tmp_path / "out", drawn_cells, source=tmp_path / "cells", flags={"a": ["too_few_cells"]}
    )

    page = write_report(ReportOptions(results=out)).path.read_text()

    assert '<span class="flag limit">too few cells</span>' in page
    assert "0 to look at" in page
    assert '<tr class="flagged">' not in page
    assert "Fewer than 50 cells of the slide were scored" in page


def test_classes_are_explained_at_the_top(reported, drawn_cells):
    """In words, and as the tables name them."""
    page = reported(drawn_cells)

    assert (
        "one of these classes: normal (hem) or leukaemic blast (all). "
        "In the tables they are called hem and all."
    ) in page


def test_without_labels_there_is_no_word_of_accuracy(reported, drawn_cells):
    """Nor an empty chart."""
    page = reported(drawn_cells)

    assert "Against the labels" not in page
    assert 'id="chart-reliability"' not in page


def test_long_names_do_not_fill_the_page(reported, data):
    """They are cut in the middle."""
    page = reported([cell("d/" * 1500 + "x.png", "y" * 4000)])

    assert len(data(page)["slides"][0]["name"]) < LONGEST + 5


def test_a_copy_says_of_what(reported, drawn_cells, data):
    """The last cell is a copy of the first."""
    drawn_cells.append(drawn_cells.pop(0) | {"path": "a/z.png"})

    page = data(reported(drawn_cells))

    lines = {each["path"]: each["lines"] for each in page["cells"]}
    assert f"copy of {drawn_cells[0]['path']}" in lines["a/z.png"]


def test_an_unfinished_run_is_refused(drawn_cells, tmp_path):
    """A report of a part would pass for one of the whole."""
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path)
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"state": "running"}))

    with pytest.raises(ResultsError, match="has not ended"):
        write_report(ReportOptions(results=out))


def test_parts_of_another_run_are_refused(drawn_cells, tmp_path):
    """Nor may one be missing."""
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path / "one")
    other = make_results(tmp_path / "other", drawn_cells, source=tmp_path / "two")
    part = out / "cells" / "part-00001.parquet"
    part.write_bytes((other / "cells" / part.name).read_bytes())
    with pytest.raises(ResultsError, match="does not belong"):
        write_report(ReportOptions(results=out))
    part.unlink()
    with pytest.raises(ResultsError, match=r"holds 7 cells, its run\.json counts 12"):
        write_report(ReportOptions(results=out))


def test_a_file_of_someone_else_is_not_replaced(drawn_cells, tmp_path):
    """A report of ours is."""
    out = make_results(tmp_path / "out", drawn_cells, source=tmp_path)
    (tmp_path / "page.html").write_text("mine")

    with pytest.raises(ResultsError, match="left alone"):
        write_report(ReportOptions(results=out, out=tmp_path / "page.html"))
    done = write_report(ReportOptions(results=out))

    assert (tmp_path / "page.html").read_text() == "mine"
    assert is_report(done.path)
    assert ResultsFolder(out).report in discardable(ResultsFolder(out))


def test_a_model_of_three_classes_without_a_positive_one(three_classes, tmp_path):
    """A real run of it: no shares, no calls, the likeliest class's probability."""
    import screen
    from screen.report.content.scan import BINS

    draw(tmp_path / "cells", [cell(f"a/{n}.png", "a") for n in range(6)])
    list(
        screen.run(
            screen.RunOptions(
                source=tmp_path / "cells",
                out=tmp_path / "out",
                model=three_classes.folder,
                runtime="torch",
            )
        )
    )

    page = write_report(ReportOptions(results=tmp_path / "out")).path.read_text()

    assert "no cell is called, and slides have no share" in page
    assert "Predicted classes" in page
    assert 'id="chart-shares"' not in page
    histogram = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["charts"]["histogram"]
    assert sum(histogram) == 6
    assert len(histogram) == BINS


@pytest.fixture
def ran(bundle, tmp_path):
    """Screen a few drawn cells for real, with a bundle that has trust data."""
    import screen

    def call(**options):
        asked = {"source": tmp_path / "cells", "out": tmp_path / "out", "runtime": "torch"}
        asked |= {"model": bundle.folder, **options}
        list(screen.run(screen.RunOptions(**asked)))
        return tmp_path / "out"

    return call


def test_a_real_run_makes_a_report_with_all_of_it(ran, drawn_cells, data):
    """Sets, distances, evidence, quality, drift: as the run wrote them."""
    out = ran()

    page = write_report(ReportOptions(results=out)).path.read_text()

    shown = data(page)
    keys = [words["key"] for words in shown["galleries"]]
    assert keys == ["suspicious", "uncertain", "strange"]
    assert all(len(each["map"]) > 1 and each["image"] for each in shown["cells"])
    assert {"focus", "ood_p", "stain_shift"} <= shown["charts"]["sample"].keys()
    assert 'id="chart-scatter"' in page
    assert ">Left open by the model<" in page


def test_the_most_suspicious_are_the_top_cells_of_the_table(ran, drawn_cells, data):
    """The report and slides.parquet name the same cells, in the same order."""
    out = ran()

    page = data(write_report(ReportOptions(results=out)).path.read_text())

    for slide in ResultsFolder(out).read_slides():
        (shown,) = (each for each in page["slides"] if each["name"] == slide["slide"])
        names = [page["cells"][place]["path"] for place in shown["galleries"]["suspicious"]]
        assert names[: len(slide["top_cells"])] == slide["top_cells"]


def test_a_report_does_not_outlive_the_tables_it_tells_of(ran, drawn_cells):
    """A finished run repeated leaves it; with other thresholds, the slides' flags are others."""
    from screen.summary.flags import Thresholds

    out = ran()
    report = write_report(ReportOptions(results=out)).path
    ran()
    assert report.exists()

    ran(thresholds=Thresholds(fraction=0.7, cells=2))

    assert not report.exists()
