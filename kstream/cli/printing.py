"""What people see on a terminal, and scripts in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..operations.overview import ShardView, StreamView

__all__ = [
    "lineage_tree",
    "print_json",
    "print_table",
    "progress_of",
    "screen",
    "status",
    "whisper",
]


def screen(*, err: bool = False) -> Console:
    """Return the terminal; in a pipe, one that never breaks a line."""
    stream = sys.stderr if err else sys.stdout
    # A pipe has no edge to cut a column or break a line at.
    width = None if stream.isatty() else 1000
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Print *value*, which may hold structs, as one JSON document."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print *rows* under *columns*; a column whose name begins with ``>`` holds numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    screen().print(table)


def whisper(text: str) -> None:
    """Print *text* to stderr, where it does not mix with what a script reads."""
    print(text, file=sys.stderr)


@contextmanager
def progress_of(size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar up to *size* bytes while the block runs, on a terminal; yield what moves it.

    Without a size (a pipe) or a terminal nothing is shown.
    """
    console = screen(err=True)
    if not (size and console.is_terminal):
        yield lambda _: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("sending", total=size)
        yield lambda done: bar.advance(task, done)


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Yield what shows, while the block runs, the last text it was called with, on stderr. In a
    pipe it prints each text once, whatever stands behind its comma."""
    console = screen(err=True)
    if console.is_terminal:
        with console.status("") as line:
            yield line.update
        return
    said = ""

    def say(text: str) -> None:
        nonlocal said
        what = text.partition(",")[0]
        if what != said:
            said = what
            whisper(text)

    yield say


def lineage_tree(view: StreamView) -> Tree:
    """Return the stream's shards as a tree, each under its parents.

    A merge has two parents: its child is drawn under the first and pointed to from the second.
    """
    facts = view.facts
    root = Tree(Text(f"{facts.name}  {view.open_shards} open of {len(view.shards)} shards", "bold"))
    shards = {shard.id: shard for shard in view.shards}
    drawn: dict[str, Tree] = {}
    for shard in view.shards:  # parents come before their children
        parents = sorted(parent for parent in shard.parents if parent in shards)
        branch = drawn[parents[0]] if parents else root
        drawn[shard.id] = branch.add(_leaf(shard, parents[1:]))
        for other in parents[1:]:
            drawn[other].add(Text(f"⤷ {shard.id}", "dim"))
    return root


def _leaf(shard: ShardView, others: Sequence[str]) -> Text:
    text = Text(shard.id, "dim" if shard.closed else "bold green")
    text.append("  closed" if shard.closed else "  open", "default" if shard.closed else "green")
    text.append(f"  {shard.share:.1%} of the keys", "default")
    if others:
        text.append(f"  merged with {', '.join(others)}", "default")
    return text
