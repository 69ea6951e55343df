"""What the page is written with cannot leave its place."""

from __future__ import annotations

import re

import pytest

from screen.report.page.html import SCRIPTS, asset, embedded


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
