"""
A settings file and the environment for every option of a command line, and its log file.

An option is taken from the command line, else from the environment, else from the settings file,
else its default holds: click's own order (``envvar`` and ``default_map``), so that types and
ranges are checked alike. The file is TOML, a table for each command, keys as the options are
called: ``[run]`` with ``batch-size = 8``. What it cannot use is an error: a misspelt setting must
not be passed over.
"""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs

from engines.command_log import logged
from engines.errors import SettingsError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SETTINGS_FILE", "SettingsGroup", "settings_places"]

SETTINGS_FILE = "slidescreen.toml"
PREFIX = "SLIDESCREEN"
FILE = click.Path(dir_okay=False, path_type=Path)

log = logging.getLogger("slidescreen")


def settings_places() -> list[Path]:
    """Return where a settings file is looked for; the first that is there is read, no other."""
    return [Path(SETTINGS_FILE), platformdirs.user_config_path("slidescreen") / SETTINGS_FILE]


class SettingsGroup(click.Group):
    """A command line whose options may stand in a settings file and in the environment."""

    def __init__(self, *arguments: Any, section: Sequence[str] = (), **options: Any) -> None:
        """Add the options of every command; *section* is where its tables lie in the file."""
        self.section = tuple(section)
        super().__init__(*arguments, **options)
        self.params += [
            click.Option(
                ["--settings"],
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                envvar=f"{PREFIX}_SETTINGS",
                callback=self._read,
                is_eager=True,
                expose_value=False,
                show_default=f"{SETTINGS_FILE} here, or else the user's",
                help="Take options from this file.",
            ),
            click.Option(
                ["--log-file"],
                type=FILE,
                envvar=f"{PREFIX}_LOG_FILE",
                callback=_keep_log_file,
                expose_value=False,
                help="Append all that is logged to this file.",
            ),
        ]

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Begin a command line, the options of all of its commands named in the environment."""
        for name, command in self.commands.items():
            _name_in_environment(command, (PREFIX, *self.section, name))
        return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what stops it goes into the log file, too."""
        with logged(ctx.meta.get(__name__)):
            try:
                return super().invoke(ctx)
            except UserError as error:
                log.error("%s", error)  # noqa: TRY400  (not a bug: no traceback)
                raise
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception:
                log.exception("a bug")
                raise

    def _read(self, ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
        """Take the defaults of this command line from the settings file, if there is one."""
        found = path or next((place for place in settings_places() if place.is_file()), None)
        if found is None or ctx.resilient_parsing:
            return
        table = _tables(found)
        if not self.section:
            table.pop("train", None)  # the other command line's
        for name in self.section:
            table = table.get(name, {})
        ctx.default_map = _defaults(self, table, found, self.section)


def _tables(path: Path) -> dict[str, Any]:
    """Read a settings file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the settings in {path}: {error}") from error


def _defaults(
    command: click.Command, table: Mapping[str, Any], path: Path, section: Sequence[str]
) -> dict[str, Any]:
    """Turn a table into click's map of defaults, in which options go by their parameters' names."""
    commands = command.commands if isinstance(command, click.Group) else {}
    names = {_called(each): each.name for each in command.params if isinstance(each, click.Option)}
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        where = ".".join((*section, key))
        if key in commands and isinstance(value, dict):
            defaults[key] = _defaults(commands[key], value, path, (*section, key))
        elif key in names and not isinstance(value, dict):
            defaults[str(names[key])] = value
        else:
            known = ", ".join(sorted([*commands, *names])) or "nothing"
            raise SettingsError(
                f"{path} sets {where}, which does not exist",
                hint=f"{'.'.join(section) or 'the file'} may hold: {known}",
            )
    return defaults


def _called(option: click.Option) -> str:
    """Return what an option is called on the command line, without its dashes."""
    return max(option.opts, key=len).lstrip("-")


def _name_in_environment(command: click.Command, names: Sequence[str]) -> None:
    """Name each option in the environment: ``SLIDESCREEN_RUN_BATCH_SIZE``."""
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            words = "_".join((*names, _called(option)))
            option.envvar = words.replace("-", "_").upper()
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            _name_in_environment(below, (*names, name))


def _keep_log_file(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Note the log file for ``invoke``."""
    ctx.meta[__name__] = path
