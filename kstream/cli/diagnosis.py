"""``doctor``: what is installed and set, and whether the places named answer."""

from __future__ import annotations

import click

from ..clock import SystemClock
from ..operations.doctor import diagnose
from .arguments import as_json
from .printing import print_json, print_table
from .program import DONE, FAILED, awaited, program

__all__ = ["doctor"]

_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


@program.command(short_help="Check installation, settings, places.")
@click.argument("stream", required=False)
@click.option("--group", "-g", metavar="NAME", help="Look at this group as well.")
@click.option("--to", "sink", metavar="SINK", help="Look at this sink as well (file:DIR).")
@as_json
@awaited
async def doctor(stream: str | None, group: str | None, sink: str | None, as_json: bool) -> int:
    """Check the installation, the settings and where each came from, and the places named.

    Exit code 1 if something is wrong.
    """
    if group and not stream:
        raise click.UsageError("--group needs the STREAM that it reads")
    found = await diagnose(stream, group, sink, clock=SystemClock())
    if as_json:
        print_json({"ok": found.ok, "checks": found.checks, "settings": found.settings})
    else:
        print_table(
            ("CHECK", "STATE", "FOUND", "WHAT TO DO"),
            [(one.name, _MARKS[one.state], one.found, one.advice) for one in found.checks],
        )
        print()
        print_table(
            ("SETTING", ">VALUE", "FROM"),
            [(one.name, one.value, one.origin) for one in found.settings],
        )
    return DONE if found.ok else FAILED
