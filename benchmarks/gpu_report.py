"""What the GPU benchmark has found so far: on disk after every result, whatever happens next."""

from __future__ import annotations

import json
import os
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Report"]

HIDDEN = {"stage", "name", "traceback"}


class Report:
    """
    Results of stages, each a row with the stage, a name and facts, in a JSON file and a page.

    Attributes:
        content: What is in the file.
    """

    def __init__(self, folder: Path, seconds: float = float("inf")) -> None:
        """Go on with the report in *folder*; *seconds* are left from now on."""
        self._json, self._page = folder / "gpu.json", folder / "gpu.md"
        self._end = time.monotonic() + seconds
        self.content: dict[str, Any] = json.loads(self._json.read_text(encoding="utf-8"))

    @classmethod
    def begun(cls, folder: Path, *, means_nothing: bool) -> Report:
        """Begin anew in *folder*."""
        content = {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "means_nothing": means_nothing,
            "rows": [],
        }
        (folder / "gpu.json").write_text(json.dumps(content), encoding="utf-8")
        return cls(folder)

    @property
    def seconds_left(self) -> float:
        """How long this stage may still take."""
        return self._end - time.monotonic()

    @property
    def troubles(self) -> list[str]:
        """What failed or disagrees with the reference."""
        return [
            f"{row['stage']} {row['name']}"
            for row in self.content["rows"]
            if "error" in row or row.get("agrees") is False
        ]

    def add(self, stage: str, name: str, **facts: Any) -> None:
        """Write a result down."""
        self.content = json.loads(self._json.read_text(encoding="utf-8"))
        self.content["rows"].append({"stage": stage, "name": name, **facts})
        self._write(self._json, json.dumps(self.content, indent=1, default=str) + "\n")
        self._write(self._page, self.page())

    def measured(
        self, stage: str, name: str, measure: Callable[[], dict[str, Any]], *, least: float = 0
    ) -> dict[str, Any]:
        """
        Write down what *measure* returns, or why it failed.

        Args:
            stage: Of which.
            name: What is measured.
            measure: Raises whatever it likes: that is a result, too.
            least: Seconds that it takes at least; with fewer left it is skipped.

        Returns:
            What was measured; nothing if it failed or was skipped.
        """
        if self.seconds_left < least:
            self.add(stage, name, skipped=f"{self.seconds_left:.0f} of {least:.0f} seconds left")
            return {}
        try:
            facts = measure()
        except Exception as error:
            said = next(iter(str(error).splitlines()), "")
            where = traceback.format_exc().splitlines()
            self.add(stage, name, error=f"{type(error).__name__}: {said}", traceback=where)
            return {}
        self.add(stage, name, **facts)
        return facts

    def fact(self, stage: str, name: str, fact: str) -> Any:
        """Return what an earlier row says, or None."""
        found = [row.get(fact) for row in self.content["rows"] if row["stage"] == stage
                 and row["name"] == name]  # fmt: skip
        return next((value for value in found if value is not None), None)

    def page(self) -> str:
        """Return everything as Markdown, a table for each stage."""
        lines = [f"GPU benchmark of {self.content['date']}"]
        if self.content["means_nothing"]:
            lines.append("A try-out with --quick: these numbers mean nothing.")
        for stage in dict.fromkeys(row["stage"] for row in self.content["rows"]):
            lines += ["", f"## {stage}", ""]
            lines += _table([row for row in self.content["rows"] if row["stage"] == stage])
        return "\n".join(lines) + "\n"

    def _write(self, path: Path, text: str) -> None:
        """Replace a file at once."""
        scratch = path.with_suffix(".scratch")
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Show rows that have facts of different names."""
    lines = ["| what | result |", "|---|---|"]
    for row in rows:
        shown = "; ".join(
            f"{name.replace('_', ' ')} {_shown(value)}"
            for name, value in row.items()
            if name not in HIDDEN
        )
        mark = " **DOES NOT AGREE**" if row.get("agrees") is False else ""
        lines.append(f"| {row['name']}{mark} | {shown.replace('|', '/')} |")
    return lines


def _shown(value: Any) -> str:
    """Show a number in as many digits as matter."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
