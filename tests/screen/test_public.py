"""What ``import screen`` gives."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import screen

PUBLIC = {"RunOptions", "SlideRule", "__version__", "open_results", "run"}
ROOT = Path(__file__).parents[2]


def test_public_names_are_seen():
    """By dir(), before any of them is used, and by a star."""
    code = "import screen; print(*dir(screen))"

    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(seen.stdout.split()) >= PUBLIC
    assert set(screen.__all__) == PUBLIC


def test_a_type_checker_sees_public_names_and_no_others(tmp_path):
    """Strings are places to it, and a name that was misspelt is an error."""
    used = tmp_path / "used.py"
    used.write_text(
        "import screen\n"
        "events = screen.run(screen.RunOptions(source='cells', out='x'))\n"
        "reveal_type(events)\n"
        "screen.rum\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental"]
    command += ["--follow-imports=silent", "--config-file=", str(used)]

    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout

    assert "Iterator[" in said
    assert '"rum"' in said
    assert said.count("error:") == 1, said


def test_the_version_is_the_packages():
    """One place says it."""
    assert screen.__version__ == version("slidescreen")
