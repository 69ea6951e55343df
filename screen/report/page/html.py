"""One HTML file that needs nothing else: text, tables, scripts and data, and no way out of it."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from screen.report.formatting import count, percent, plural, probability
from screen.results.folder import REPORT_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["embedded", "render"]

LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
OURS = ("elements", "table", "charts", "review", "cell", "overview", "slide")
SCRIPTS = (*LIBRARIES, *(f"{name}.js" for name in OURS))


def render(values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """
    Return the page.

    Args:
        values: What the template writes; everything is escaped.
        data: What the script draws; it stands in the page as inert JSON.
    """
    scripts = [asset(name) for name in SCRIPTS]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **values,
            mark=Markup(REPORT_MARK.decode()),  # noqa: S704  ours
            style=Markup(asset("report.css")),  # noqa: S704  ours
            scripts=[Markup(script) for script in scripts],  # noqa: S704  ours and the library's
            policy=_policy(scripts),
            data=embedded(data),
        )
    )


def embedded(data: Mapping[str, Any]) -> Markup:
    r"""
    Return JSON that may stand inside a script element.

    ``<``, ``>``, ``&``, ``'`` and all that is not ASCII, U+2028 for one, are written ``\uNNNN``.
    """
    compact: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": True, "allow_nan": False}
    return htmlsafe_json_dumps(dict(data), dumps=json.dumps, **compact)


def _policy(scripts: list[str]) -> str:
    """Forbid everything but our own scripts, by hash, our styles, and pictures in the page."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    # The chart library writes a style element into each of its drawings.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> str:
    """Return one of the files that ship with this package."""
    return (files("screen.report") / "assets" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Return a template engine that escapes, and refuses a name that was not given."""
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "plural": plural,
        "probability": probability,
    }
    return environment
