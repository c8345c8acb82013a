"""``docs/cli.md`` says what ``--help`` says. After a change: ``python -m tests.unit.cli.test_document``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from kstream.cli.program import loaded

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
BEGIN = "<!-- from here on: python -m tests.unit.cli.test_document -->\n"


def commands(group: click.Command, names: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below *group* with its whole name."""
    if not isinstance(group, click.Group):
        yield " ".join(names), group
        return
    for name, command in sorted(group.commands.items()):
        yield from commands(command, (*names, name))


def written() -> str:
    """Return the part of the document that the command line knows."""
    sections = []
    for name, command in commands(loaded(), ("kstream",)):
        context = click.Context(
            command, info_name=name, terminal_width=88, help_option_names=["-h", "--help"]
        )
        sections.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n" + "\n".join(sections)


def test_the_document_says_what_help_says() -> None:
    _, _, commands_part = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    assert commands_part == written(), "run python -m tests.unit.cli.test_document"


def test_every_option_is_explained() -> None:
    """An option without a word about it is a riddle."""
    for name, command in commands(loaded(), ("kstream",)):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help or parameter.name in {"shards", "processes", "log_format"}


if __name__ == "__main__":
    before, _, _ = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + written(), encoding="utf-8")
