"""Every command with its help, as click prints it, for docs/commands.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from screen.cli.main import cli
from train.cli.commands import cli as train_cli

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["command_page"]

WIDTH = 96
PROGRAMS = {"slidescreen": cli, "slidescreen-train": train_cli}


def command_page() -> str:
    """Return a heading and the help of every command of every program."""
    blocks = []
    for name, group in PROGRAMS.items():
        for title, text in _helps(name, group, None):
            blocks.append(f"## {title}\n\n```text\n{text}\n```")
    return "\n\n".join(blocks)


def _helps(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """Yield a command's full name and its help, then those of its subcommands."""
    how = {**command.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **how)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, text
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None  # the group has just named it
            yield from _helps(inner, found, context)
