"""What a person said of cells, held against results."""

from __future__ import annotations

import pytest
from made_results import cell, fault, overview

from engines.errors import ResultsError, SourceError
from screen.report.content.review import read_review
from screen.summary.intervals import wilson

CLASSES = ("hem", "all")
HEAD = "path,verdict,label,note\n"


@pytest.fixture
def reviewed(tmp_path):
    """Hold the lines of a review against made-up results."""

    def call(cells, *lines):
        file = tmp_path / "review.csv"
        file.write_text(HEAD + "".join(f"{line}\n" for line in lines))
        found, _, _ = overview(tmp_path, cells, review=read_review(file, CLASSES))
        return found.review

    return call


def test_agreement_is_of_the_cells_that_were_judged(reviewed):
    """Artefacts, doubts and bare notes count apart; few slides get Wilson's interval."""
    cells = [cell(f"a/{n}.png", "a", p=0.9 if n < 4 else 0.1) for n in range(8)]

    found = reviewed(
        cells,
        "a/0.png,agree,all,",
        "a/1.png,disagree,hem,",
        "a/2.png,artefact,,dust",
        "a/4.png,agree,hem,",
        "a/5.png,unsure,,",
        "a/6.png,,,look again",
    )

    assert found.verdicts == {"agree": 2, "disagree": 1, "artefact": 1, "unsure": 1}
    every, called = found.agreement(), found.agreement(CLASSES.index("all"))
    assert (every.agreed, every.judged, every.by_slide) == (2, 3, False)
    assert (every.low, every.high) == wilson(2, 3)
    assert (called.agreed, called.judged) == (1, 2)
    assert found.marks[6].note == "look again"


def test_agreement_over_many_slides_resamples_them(reviewed):
    """Cells of a slide agree together: the interval is wider than Wilson's."""
    cells = [cell(f"s{n:02}/{m}.png", f"s{n:02}", p=0.9) for n in range(10) for m in range(20)]
    lines = [
        f"{each['path']},{'agree' if each['slide'] > 's03' else 'disagree'},," for each in cells
    ]

    found = reviewed(cells, *lines).agreement()

    low, high = wilson(120, 200)
    assert found.by_slide
    assert found.low < low
    assert found.high > high


def test_where_all_agree_the_interval_is_not_of_no_width(reviewed):
    """Slides resampled would say 100 to 100%."""
    cells = [cell(f"s{n}/0.png", f"s{n}", p=0.9) for n in range(8)]

    found = reviewed(cells, *(f"{each['path']},agree,all," for each in cells)).agreement()

    assert (found.agreed, found.high, found.by_slide) == (8, 1, False)
    assert found.low == wilson(8, 8)[0]


def test_a_review_of_another_run_is_held_against_what_is_predicted_now(reviewed):
    """What the person calls the cell counts; without that, the verdict."""
    cells = [cell("a/0.png", "a", p=0.1), cell("a/1.png", "a", p=0.1)]

    found = reviewed(cells, "a/0.png,agree,all,", "a/1.png,disagree,hem,")

    assert [mark.verdict for mark in found.marks.values()] == ["disagree", "agree"]


def test_cells_that_are_not_here_or_not_scored_are_counted(reviewed):
    """None is lost without a word."""
    found = reviewed(
        [cell("a/0.png", "a"), fault("a/1.png", "a")],
        "a/0.png,unsure,,",
        "a/1.png,artefact,,",
        "b/0.png,agree,all,",
        "b/1.png,agree,all,",
    )

    assert (len(found.marks), found.unscored, found.missing) == (1, 1, 2)
    assert found.agreement() is None


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (HEAD + "a.png,yes,,\n", ResultsError, "says yes of a.png"),
        (HEAD + "a.png,,,\n", ResultsError, "says nothing of a.png"),
        (HEAD + "a.png,agree,blast,\n", ResultsError, "calls a.png blast, which is no class"),
        (HEAD + "a.png,agree,,\na.png,unsure,,\n", ResultsError, "reviews a.png twice"),
        (HEAD + ",agree,,\n", ResultsError, "a row without a path"),
        ("path,label\na.png,all\n", SourceError, "path (or file) and verdict are needed"),
    ],
)
def test_what_is_no_review_is_refused(tmp_path, text, error, said):
    """With the row that says it."""
    file = tmp_path / "review.csv"
    file.write_text(text)

    with pytest.raises(error) as caught:
        read_review(file, CLASSES)

    assert said in str(caught.value)


def test_more_marks_than_a_page_holds_are_refused(tmp_path):
    """As labels they can be given."""
    file = tmp_path / "review.csv"
    file.write_text(HEAD + "".join(f"{n}.png,agree,,\n" for n in range(10_001)))

    with pytest.raises(ResultsError, match="has room for 10,000"):
        read_review(file, CLASSES)
