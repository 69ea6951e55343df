"""
Write the parts of the documentation that come from the code, between their marks.

The map of modules in ARCHITECTURE.md, the error messages in docs/troubleshooting.md and the
commands in docs/commands.md. With ``--check``, write nothing and exit 1 if a file would change.

Example:
    python scripts/write_docs.py
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from command_docs import command_page

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["changed_files", "error_messages", "module_map"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("engines", "screen", "train")
WIDTH = 98
NAME_WIDTH = 24
GROUPS = {  # heading of docs/troubleshooting.md -> the modules whose errors it holds
    "The folder of cells": (
        "engines/sources/", "engines/locations", "screen/packing/", "screen/results/plan",
    ),
    "Decoders, runtimes and the GPU": (
        "engines/backends", "engines/registry", "engines/command", "engines/decode/",
        "engines/hardware/", "engines/runtime/", "screen/doctor",
    ),
    "TensorRT engines": ("engines/tensorrt/", "screen/engine_verify", "screen/engine_tune"),
    "Model bundles": ("engines/models/", "engines/mixed_precision/", "engines/uncertainty/"),
    "Starting a run and going on with one": (
        "screen/runners/", "screen/options", "screen/cli/", "screen/bench/", "engines/settings",
        "engines/command_log",
    ),
    "Results": ("screen/results/", "screen/summary/", "screen/export/", "screen/similar",
                "screen/comparison/"),
    "The report": ("screen/report/",),
    "Training data": ("train/data/",),
    "Training": ("train/",),
}  # fmt: skip


def module_map() -> str:
    """Return every module with the first sentence of its docstring, folder by folder."""
    lines = []
    for package in PACKAGES:
        folders = sorted({path.parent for path in (ROOT / package).rglob("*.py")})
        for folder in folders:
            modules = sorted(folder.glob("*.py"), key=lambda path: (path.stem != "__init__", path))
            lines.append(f"{folder.relative_to(ROOT).as_posix()}/")
            lines += [line for path in modules for line in _map_lines(path)]
    return "\n".join(["```text", *lines, "```"])


def _map_lines(path: Path) -> list[str]:
    """Return a module's name and what it says of itself, wrapped."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[a-z)`]\.)\s", " ".join(paragraph.split()))[0].rstrip(".")
    name = f"  {path.name}".ljust(NAME_WIDTH)
    return textwrap.wrap(
        sentence,
        WIDTH,
        initial_indent=name if name.endswith(" ") else f"{name} ",
        subsequent_indent=" " * NAME_WIDTH,
        break_long_words=False,
    )


def error_messages() -> str:
    """Return every message that a user can mend, grouped, each with what to do."""
    said: dict[str, dict[str, str]] = {heading: {} for heading in GROUPS}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for message, hint in _errors_of(path):
                said[_heading(path)].setdefault(message, hint)
    blocks = []
    for heading, messages in said.items():
        blocks.append(f"### {heading}\n")
        blocks += [_entry(message, hint) for message, hint in sorted(messages.items())]
        blocks.append("")
    return "\n".join(blocks).rstrip()


def _heading(path: Path) -> str:
    """Return the heading under which a module's errors stand: that of the longest prefix."""
    name = path.relative_to(ROOT).as_posix()
    fitting = [
        (len(prefix), heading)
        for heading, prefixes in GROUPS.items()
        for prefix in prefixes
        if name.startswith(prefix)
    ]
    if not fitting:
        raise SystemExit(f"{name} has errors and belongs to no group: add it to GROUPS")
    return max(fitting)[1]


def _entry(message: str, hint: str) -> str:
    """Return a message as a code span, and the advice below it."""
    lines = [f"- `{message.replace('`', '')}`"]
    lines += [f"Hint: {hint}"] if hint else []
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            initial_indent="" if line.startswith("- ") else "  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def _errors_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the message and hint of each error that a module raises with a text of its own."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _error_names():
            message = _text(node.args[0], constants) if node.args else ""
            hints = [key.value for key in node.keywords if key.arg == "hint"]
            if re.search(r"[a-z]{3}", message):
                yield message, _text(hints[0], constants) if hints else ""


def _error_names() -> set[str]:
    """Return the names of the exceptions that carry a hint."""
    tree = ast.parse((ROOT / "engines" / "errors.py").read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """Return a text, an ellipsis for what is filled in; nothing if it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else _filled_in(part, constants)
            for part in node.values
        )
    if isinstance(node, ast.Name) and node.id in constants:
        return _text(constants[node.id], {})
    return ""


def _filled_in(part: ast.expr, constants: dict[str, ast.expr]) -> str:
    """Return what a constant gives, or an ellipsis."""
    value = part.value if isinstance(part, ast.FormattedValue) else part
    known = isinstance(value, ast.Name) and value.id in constants
    return (_text(value, constants) if known else "") or "\N{HORIZONTAL ELLIPSIS}"


def _filled(path: Path, mark: str, text: str) -> tuple[Path, str]:
    """Return a file's text with what stands between two marks replaced."""
    begin, end = f"<!-- {mark}: written by scripts/write_docs.py -->", f"<!-- end of {mark} -->"
    before, found, rest = path.read_text("utf-8").partition(begin)
    after = rest.partition(end)[2]
    if not found:
        raise SystemExit(f"{path} lacks the mark {begin}")
    return path, f"{before}{begin}\n\n{text}\n\n{end}{after}"


def changed_files() -> list[tuple[Path, str]]:
    """Return the files that differ from what the code says, each with its new text."""
    wanted = [
        _filled(ROOT / "ARCHITECTURE.md", "map of modules", module_map()),
        _filled(ROOT / "docs" / "troubleshooting.md", "error messages", error_messages()),
        _filled(ROOT / "docs" / "commands.md", "commands", command_page()),
    ]
    return [(path, text) for path, text in wanted if path.read_text("utf-8") != text]


def main() -> None:
    """Write or check."""
    changed = changed_files()
    for path, text in changed:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, "utf-8")
    sys.exit(bool(changed) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
