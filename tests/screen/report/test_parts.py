"""The parts of the report, each against a plain account of what it should find."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from made_results import CENTRES, cell, fault, make_results
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from engines.decode.geometry import placement
from engines.errors import SourceError
from engines.models.input import FieldCentres, ModelInput
from engines.sources.labels import FOREIGN, UNKNOWN, open_labels
from screen.report.content.accuracy import Judged
from screen.report.content.cell_reader import CellRows
from screen.report.content.columns import EvidenceGrid, Fields
from screen.report.content.evidence import common_scale, packed
from screen.report.content.galleries import choose
from screen.report.content.pictures import overlay_box
from screen.report.content.scan import GALLERIES, SAMPLE_CELLS, scan
from screen.report.formatting import LONGEST, p_value, shown
from screen.report.page.html import SCRIPTS, asset, embedded
from screen.results.folder import ResultsFolder

CLASSES = ("hem", "all")


def overview(tmp_path, cells, labels=None, **made):
    """Scan made results; return them, too."""
    results = ResultsFolder(make_results(tmp_path / "out", cells, source="/cells", **made))
    record = results.read_run()
    rows = CellRows.of(results, record)
    fields = Fields.of(record, rows.schema)
    slides = [slide["slide"] for slide in results.read_slides()]
    known = None if labels is None else open_labels(labels, fields.classes)
    return scan(rows, fields, slides, known), rows, fields


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


def test_galleries_hold_what_they_say(tmp_path, forty):
    """By slide: highest probability, nearest to the threshold, farthest from training, faults."""
    found, _, _ = overview(tmp_path, forty)

    keys = {
        "suspicious": lambda each: -np.float32(each["prob_all"]),
        "uncertain": lambda each: abs(np.float64(np.float32(each["prob_all"])) - 0.4),
        "strange": lambda each: -np.float32(each["ood_score"]),
    }
    for name, key in keys.items():
        for index, slide in enumerate(["s0", "s1", "s2"]):
            own = [n for n, each in enumerate(forty) if each["slide"] == slide]
            scored = [n for n in own if forty[n]["status"] == "ok"]
            expected = sorted(scored, key=lambda n: key(forty[n]))
            assert found.top_cells[name].ranked()[index] == expected[: GALLERIES[name]]
    faults = [n for n, each in enumerate(forty) if each["status"] != "ok"]
    shown = found.top_cells["unscored"].ranked().values()
    assert sorted(row for rows in shown for row in rows) == faults


def test_histograms_count_every_scored_cell_of_a_slide(tmp_path, forty):
    """In bins of equal width; 1 lies in the last."""
    forty[1] |= {"prob_all": 1.0, "prob_hem": 0.0}

    found, _, _ = overview(tmp_path, forty)

    for index, slide in enumerate(["s0", "s1", "s2"]):
        values = [
            np.float32(each["prob_all"])
            for each in forty
            if each["slide"] == slide and each["status"] == "ok"
        ]
        expected, _ = np.histogram(values, 40, (0, 1))
        assert found.histogram[index].tolist() == expected.tolist()


def test_the_sample_is_bounded_and_even(tmp_path):
    """Of many cells about as many as promised, from all along the plan."""
    cells = [cell(f"s/{n:05}.png", "s", focus=float(n)) for n in range(3 * SAMPLE_CELLS)]

    found, _, _ = overview(tmp_path, cells, part_cells=4096)
    (focus,) = (np.concatenate(found.sample[name]) for name in ["focus"])

    assert abs(len(focus) - SAMPLE_CELLS) < 10
    assert np.diff(focus).max() < 10


def test_rows_are_taken_across_parts(tmp_path, forty):
    """Single rows come back as they were written, whatever part they are in."""
    _, rows, _ = overview(tmp_path, forty)

    taken = [
        row["path"] for batch in rows.take([0, 6, 7, 39], ["path"]) for row in batch.to_pylist()
    ]

    assert taken == [forty[n]["path"] for n in (0, 6, 7, 39)]


class Ranked:
    """Leaders that are what they are said to be."""

    def __init__(self, rows):
        """Hold rows by slide."""
        self.rows = rows

    def ranked(self):
        """Return them."""
        return self.rows


def test_places_go_to_every_slide_first_and_then_to_the_urgent(monkeypatch):
    """Each slide's best cell is shown before any slide's second; then the first slides' rest."""
    monkeypatch.setattr("screen.report.content.galleries.MOST_CELLS", 5)
    rows = {0: [0, 1, 2], 1: [10, 11, 12], 2: [20, 21, 22]}
    top_cells = {name: Ranked({}) for name in GALLERIES} | {"suspicious": Ranked(rows)}

    choice = choose(top_cells, [2, 0, 1])

    assert choice.order == [20, 0, 10, 21, 22]
    assert choice.rows["suspicious"] == {2: [20, 21, 22], 0: [0], 1: [10]}


def test_a_cell_of_two_galleries_takes_one_place():
    """It is shown in both, with one picture."""
    top_cells = {name: Ranked({}) for name in GALLERIES}
    top_cells |= {"suspicious": Ranked({0: [5, 6]}), "strange": Ranked({0: [6, 5]})}

    choice = choose(top_cells, [0])

    assert sorted(choice.order) == [5, 6]
    assert choice.rows["strange"] == {0: [6, 5]}


@pytest.mark.parametrize(("height", "width"), [(90, 70), (70, 90), (64, 64), (1, 300)])
@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.57])
@pytest.mark.parametrize("centres", [FieldCentres(0.5, 0.5, 16, 16), FieldCentres(8, 11.5, 16, 16)])
def test_the_overlay_lies_where_the_model_saw_it(height, width, fit, crop_pct, centres):
    """The middle of each square, carried from the crop to the input, is its receptive field's."""
    expected = ModelInput(
        height=48, width=64, fit=fit, crop_pct=crop_pct, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    place = placement(height, width, expected)
    window = place.window

    left, top, wide, high = overlay_box(height, width, expected, EvidenceGrid(3, 4, centres))

    for row, column in ((0, 0), (1, 3), (2, 2)):
        x = (left + wide * (column + 0.5) / 4) * width
        y = (top + high * (row + 0.5) / 3) * height
        across = place.left + (x - window.left) * place.width / window.width
        down = place.top + (y - window.top) * place.height / window.height
        assert across == pytest.approx(centres.left + column * centres.across)
        assert down == pytest.approx(centres.top + row * centres.down)


def test_a_map_of_squares_side_by_side_covers_a_squashed_crop():
    """Where each place looks at the middle of its own square, the map is the crop."""
    expected = ModelInput(height=48, width=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    grid = EvidenceGrid(3, 4, FieldCentres(8, 8, 16, 16))

    assert overlay_box(90, 70, expected, grid) == (0, 0, 1, 1)


@pytest.mark.parametrize("known", [True, False])
def test_a_map_that_may_lie_elsewhere_is_not_shown(tmp_path, known):
    """Without centres of receptive fields there is no evidence at all."""
    _, _, fields = overview(tmp_path, [cell("s/1.png", "s")], centres=CENTRES if known else None)

    assert (fields.evidence is not None) == known


def test_evidence_keeps_its_sign_and_its_proportions():
    """One scale for all; int8 within half a step; what is beyond the scale is cut."""
    maps = [np.array([-1.0, 0.0, 0.5, 2.0], np.float32), None]

    scale = common_scale(maps)
    levels = np.frombuffer(base64.b64decode(packed(maps[0] * 1.5, scale)), np.int8)

    assert scale == pytest.approx(2.0, abs=0.02)
    assert levels / 127 * scale == pytest.approx([-1.5, 0, 0.75, scale], abs=scale / 200)
    assert common_scale([None]) is None


@pytest.fixture
def labels_file(tmp_path):
    """Write a table of labels."""

    def write(text, name="labels.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_labels_are_read_from_a_table(labels_file):
    """By path; by name where the table has no folder; numbers are names; empty is unknown."""
    asked = labels_file("file,other,label\na/1.png,x,all\n2.png,y,hem\n3.png,z,07\n4.png,w,\n")

    codes = open_labels(asked, CLASSES).codes(["a/1.png", "b/2.png", "3.png", "4.png", "5.png"])

    assert codes.tolist() == [1, 0, FOREIGN, UNKNOWN, UNKNOWN]


def test_labels_are_read_from_names():
    """C-NMC's, and any regular expression's."""
    names = ["UID_H3_1_2_hem.bmp", "a/UID_11_1_2_all.bmp", "UID_11_1_all.bmp", "x_all.png"]

    assert open_labels("cnmc", CLASSES).codes(names).tolist() == [0, 1, UNKNOWN, UNKNOWN]
    assert open_labels("folders", CLASSES).codes(["all/1.png", "2.png"]).tolist() == [1, UNKNOWN]
    asked = r"_(?P<label>[a-z]+)\.png$"
    assert open_labels(asked, CLASSES).codes(names).tolist() == [UNKNOWN] * 3 + [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na.png,all\na.png,hem\n", "twice"),
        ("name,label\na.png,all\n", "path (or file) and label"),
        ("path,label\n1.png,all\n", "fits both"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(labels_file, text, said):
    """Two labels for a cell, no such column, one row for two cells."""
    with pytest.raises(SourceError, match=re.escape(said)):
        open_labels(labels_file(text), CLASSES).codes(["a/1.png", "b/1.png"])


@pytest.mark.parametrize("asked", ["nothing.csv", "(", "(?P<slide>x)"])
def test_what_is_no_source_of_labels_is_refused(asked):
    """With what would be one."""
    with pytest.raises(SourceError) as caught:
        open_labels(asked, CLASSES)

    assert "cnmc" in caught.value.hint


def test_accuracy_is_scikit_learns(tmp_path, forty, labels_file):
    """Accuracy, confusion, sensitivity and specificity; whatever has no label is counted."""
    random = np.random.default_rng(5)
    truth = {each["path"]: str(random.choice(CLASSES)) for each in forty[2:]}
    table = "".join(f"{path},{label}\n" for path, label in truth.items())

    found, _, _ = overview(tmp_path, forty, labels_file("path,label\n" + table + "no.png,all\n"))

    judged = found.judged
    known = [each for each in forty if each["path"] in truth and each["status"] == "ok"]
    labels = [truth[each["path"]] for each in known]
    predicted = [each["predicted"] for each in known]
    called = [each["positive"] for each in known]
    is_all = [label == "all" for label in labels]
    calls = judged.calls
    assert judged.rate(judged.right, judged.scored)[0] == accuracy_score(labels, predicted)
    assert (judged.confusion == confusion_matrix(labels, predicted, labels=CLASSES)).all()
    rate, *_ = judged.rate(calls[:, 1, 1], calls[:, 1].sum(axis=1))
    assert rate == recall_score(is_all, called)
    rate, *_ = judged.rate(calls[:, 0, 0], calls[:, 0].sum(axis=1))
    assert rate == recall_score(is_all, called, pos_label=False)
    assert (judged.cells, judged.unlabelled) == (len(known), 2)
    assert judged.unscored == len(truth) - len(known)


def judged_slides(random, slides, cells):
    """Judge made cells of slides, each with an accuracy of its own; return all right and all."""
    fields = Fields(
        classes=CLASSES,
        display_names={},
        positive="all",
        threshold=0.5,
        present=frozenset(),
        evidence=None,
        input=None,
        ood_level=None,
    )
    judged = Judged(fields, slides)
    slide = np.repeat(np.arange(slides), cells)
    right = random.random(slides * cells) < random.beta(4, 2, slides)[slide]
    label = np.ones(len(slide), np.int64)
    judged.add(slide, label, right.astype(np.int64), right, right * 0.9)
    return judged


def test_the_interval_of_accuracy_holds_over_new_slides():
    """95% intervals cover the true accuracy of slides drawn anew, 4/6, in most of 200 trials."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        judged = judged_slides(random, slides=40, cells=30)
        _, low, high = judged.rate(judged.right, judged.scored)
        covered += low <= 4 / 6 <= high

    assert 0.88 <= covered / 200 <= 1  # a bootstrap over 40 slides is a little short of 95%


def test_few_slides_give_no_interval():
    """And no cell gives no rate."""
    judged = judged_slides(np.random.default_rng(0), slides=4, cells=10)
    _, low, high = judged.rate(judged.right, judged.scored)

    assert np.isnan([low, high]).all()
    assert judged.rate(judged.right[:0], judged.scored[:0]) is None


def test_probabilities_that_mean_what_they_say_lie_on_the_diagonal():
    """Cells that are positive as often as said: each bin's interval covers, the error is small."""
    random = np.random.default_rng(1)
    judged = judged_slides(random, slides=5, cells=0)
    chance = random.random(50_000)
    positive = random.random(50_000) < chance
    slide = np.zeros(50_000, np.int64)

    judged.add(slide, positive.astype(np.int64), positive.astype(np.int64), positive, chance)

    bins = judged.reliability()
    assert [each.mean for each in bins] == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.01)
    assert sum(each.low <= each.mean <= each.high for each in bins) >= 8
    assert judged.calibration_error() < 0.01


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "&amp;", "\u2028", "'\"", "é\ud800"])
def test_json_cannot_leave_its_element(text):
    """Nothing in it means anything to HTML, and it reads back the same."""
    import json

    written = str(embedded({"name": text}))

    assert not set(written) & set("<>&'\u2028")
    assert written.isascii()
    assert json.loads(written) == {"name": text}


def test_our_own_scripts_end_where_they_should():
    """None holds what would end or hide its element."""
    for name in SCRIPTS:
        assert not re.search(r"</script|<!--", asset(name), re.IGNORECASE)


def test_foreign_text_is_shown_as_what_it_is():
    """Marks that turn text around are spelled out; a long name is cut in the middle."""
    assert shown("a\u202eb\n") == r"a\u202eb\n"
    assert shown("x" * 1000 + "end").endswith("end")
    assert len(shown("x" * 1000)) < LONGEST + 5


@pytest.mark.parametrize(("value", "text"), [(0.0004, "p < 0.001"), (0.0312, "p = 0.031")])
def test_a_p_value_is_never_nought(value, text):
    """The smallest are bounds."""
    assert p_value(value).replace("\N{NO-BREAK SPACE}", " ") == text
