"""Numbers and foreign names as a person reads them."""

from __future__ import annotations

import pytest

from screen.report.formatting import LONGEST, p_value, shown


def test_foreign_text_is_shown_as_what_it_is():
    """Marks that turn text around are spelled out; a long name is cut in the middle."""
    assert shown("a\u202eb\n") == r"a\u202eb\n"
    assert shown("x" * 1000 + "end").endswith("end")
    assert len(shown("x" * 1000)) < LONGEST + 5


@pytest.mark.parametrize(("value", "text"), [(0.0004, "p < 0.001"), (0.0312, "p = 0.031")])
def test_a_p_value_is_never_nought(value, text):
    """The smallest are bounds."""
    assert p_value(value).replace("\N{NO-BREAK SPACE}", " ") == text
