"""Options from a file and from the environment, what is logged, and errors for programs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import click
import pytest

from engines.command import MENDABLE, USAGE, run_command
from engines.errors import SourceError
from engines.settings import SettingsGroup
from screen.cli.main import cli as screen_cli
from train.cli.commands import cli as train_cli


@pytest.fixture
def line(monkeypatch, tmp_path):
    """A command line of two levels, run in an empty folder, and what its command was given."""
    given = {}

    @click.group(cls=SettingsGroup)
    def cli():
        pass

    @cli.command()
    @click.option("--batch-size", "batch", type=click.IntRange(1, 8), default=2)
    @click.option("--exclude", multiple=True)
    @click.option("--fail", is_flag=True)
    @click.option("--json", "as_json", is_flag=True)
    def run(**options):
        given.update(options)
        logging.getLogger("engines.x").info("so far")
        logging.getLogger("screen.x").warning("beware")
        if options["fail"]:
            raise SourceError("no cells", hint="look")

    @cli.group()
    def engine():
        pass

    @engine.command()
    @click.option("--precision", default="fp16")
    def build(**options):
        given.update(options)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["slidescreen", *arguments])
        with pytest.raises(SystemExit) as caught:
            run_command(cli, "slidescreen")
        return caught.value.code, given

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    return call


def test_the_nearest_word_counts(line, monkeypatch, tmp_path):
    """The command line before the environment, that before the file, that before the default."""
    assert line("run")[1]["batch"] == 2
    (tmp_path / "slidescreen.toml").write_text('[run]\nbatch-size = 3\nexclude = ["a", "b"]\n')
    assert line("run")[1] == {"batch": 3, "exclude": ("a", "b"), "fail": False, "as_json": False}
    monkeypatch.setenv("SLIDESCREEN_RUN_BATCH_SIZE", "4")
    assert line("run")[1]["batch"] == 4
    assert line("run", "--batch-size", "5")[1]["batch"] == 5


def test_commands_of_commands_have_tables_of_their_own(line, monkeypatch, tmp_path):
    """In the file and in the environment; another file can be named."""
    (tmp_path / "mine.toml").write_text('[engine.build]\nprecision = "bf16"\n')

    assert line("--settings", "mine.toml", "engine", "build")[1]["precision"] == "bf16"
    monkeypatch.setenv("SLIDESCREEN_ENGINE_BUILD_PRECISION", "fp32")
    assert line("engine", "build")[1]["precision"] == "fp32"


def test_the_users_file_is_read_where_there_is_no_other(line, tmp_path):
    """Never both."""
    (tmp_path / "user" / "slidescreen").mkdir(parents=True)
    (tmp_path / "user" / "slidescreen" / "slidescreen.toml").write_text("[run]\nbatch-size = 7\n")

    assert line("run")[1]["batch"] == 7
    (tmp_path / "slidescreen.toml").write_text("[run]\nfail = false\n")
    assert line("run")[1]["batch"] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\nbatch = 3\n", "sets run.batch, which does not exist"),
        ("[runn]\n", "sets runn, which"),
        ("[engine.build]\nx = 1\n", "engine.build.x"),
        ("[run]\nbatch-size = {a = 1}\n", "run.batch-size"),
        ("[run\n", "cannot read the settings"),
        ("[run]\nbatch-size = 9\n", "--batch-size"),
    ],
)
def test_what_a_file_cannot_mean_is_an_error(line, capsys, tmp_path, text, said):
    """Nothing that somebody has written down is passed over."""
    (tmp_path / "slidescreen.toml").write_text(text)

    assert line("run")[0] in {MENDABLE, USAGE}
    assert said in capsys.readouterr().err


def test_one_file_serves_both_command_lines(tmp_path):
    """Training's tables lie in [train]; every option of either has its own variable."""
    seen = {}
    for group, prefix in ((screen_cli, "SLIDESCREEN_"), (train_cli, "SLIDESCREEN_TRAIN_")):
        group.make_context("any", [], resilient_parsing=True)
        for name, command in group.commands.items():
            for option in command.params:
                if isinstance(option, click.Option):
                    assert option.envvar.startswith(prefix + name.upper().replace("-", "_"))
                    assert seen.setdefault(option.envvar, (prefix, option)) == (prefix, option)
    (tmp_path / "slidescreen.toml").write_text('[train.fit]\nlr = 1e-3\n[run]\nslide = "cnmc"\n')
    for module in ("screen.cli", "train.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--settings", tmp_path / "slidescreen.toml", "run"]
            if module == "screen.cli"
            else [sys.executable, "-m", module, "--settings", tmp_path / "slidescreen.toml", "fit"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == USAGE, done.stderr
        assert "Missing argument" in done.stderr


def test_the_log_file_has_all_and_the_screen_warnings(line, capsys, tmp_path):
    """Also what stopped the command; a second command goes on in the same file."""
    line("--log-file", "a.log", "run")
    assert capsys.readouterr().err == "beware\n"

    line("--log-file", "a.log", "run", "--fail")

    text = (tmp_path / "a.log").read_text()
    assert capsys.readouterr().err.splitlines() == ["beware", "Error: no cells", "Hint: look"]
    assert text.count("INFO engines.x: so far") == 2
    assert text.count("WARNING screen.x: beware") == 2
    assert "ERROR slidescreen: no cells" in text


def test_a_log_file_that_cannot_be_written_is_an_error(line, capsys):
    """Before the command begins."""
    assert line("--log-file", "none/a.log", "run")[0] == MENDABLE
    assert "cannot write the log file" in capsys.readouterr().err


def test_a_library_prints_nothing(capfd):
    """Not even a warning, until somebody asks for it."""
    code = "import engines, logging; logging.getLogger('engines.x').warning('beware')"

    subprocess.run([sys.executable, "-c", code], check=True)

    assert capfd.readouterr() == ("", "")


def test_errors_are_json_where_results_would_be(line, capsys):
    """On stdout, with all that is said on stderr; wrong usage, too."""
    assert line("run", "--fail", "--json")[0] == MENDABLE
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "error": {"type": "SourceError", "message": "no cells", "hint": "look", "status": 1}
    }
    assert line("run", "--nothing", "--json")[0] == USAGE
    assert json.loads(capsys.readouterr().out)["error"]["status"] == USAGE


def test_the_shell_completes(tmp_path):
    """Commands, and options of commands."""
    environment = {
        **os.environ, "_SLIDESCREEN_COMPLETE": "bash_complete",
        "COMP_WORDS": "slidescreen export --sl", "COMP_CWORD": "2",
    }  # fmt: skip
    code = "import sys; sys.argv[0] = 'slidescreen'; from screen.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )

    assert {"plain,--slide", "plain,--slides"} <= set(done.stdout.split())
