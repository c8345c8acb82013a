"""``run``: one worker here, or several processes that are watched over."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from ..engine.groups import StartAt
from ..errors import UsageError
from ..observers.log import configure_logging
from ..settings import KNOBS, load_settings
from ..urls import parse_url
from ..worker import Worker
from .arguments import start
from .program import DONE, program
from .supervisor import Supervisor, stop_when_orphaned

__all__ = ["run"]

_URL_SCHEMES: Final = ("local:", "memory:", "kinesis:", "kafka:", "arn:")


class _Options(Struct, frozen=True):
    """What may be said of a worker that is built here."""

    group: str | None
    to: tuple[str, ...]
    roll: str | None
    begin: StartAt | None
    dedup: bool
    dead_letters: str | None
    leases: str | None

    def given(self) -> list[str]:
        """Return the options that were given, as they are written."""
        named = {
            "--group": self.group,
            "--to": self.to,
            "--roll": self.roll,
            "--from": self.begin,
            "--dedup": self.dedup,
            "--dead-letters": self.dead_letters,
            "--leases": self.leases,
        }
        return [name for name, value in named.items() if value not in (None, (), False)]


@program.command(short_help="Run a worker, or several processes of it.")
@click.argument("target", metavar="MODULE:WORKER|STREAM")
@click.option("--group", "-g", metavar="NAME", help="The consumer group (with STREAM).")
@click.option("--to", multiple=True, metavar="SINK", help="Deliver to file:DIR (with STREAM).")
@click.option("--roll", metavar="ROLL", help="When to deliver: 64MiB,5m,count=10000,idle=30s.")
@click.option(
    "--from", "begin", type=start, metavar="START", help="Where a new group starts (earliest)."
)
@click.option("--dedup", is_flag=True, help="Drop records whose ID was seen before.")
@click.option("--dead-letters", metavar="URL", help="Where records go that keep failing.")
@click.option("--leases", metavar="URL", help="Where the group's rows are (beside the stream).")
@click.option(
    "--processes", "-p", type=click.IntRange(1, 512), default=1, show_default=True, metavar="N"
)
@click.option("--metrics-port", type=int, metavar="PORT", help="Of the first process; then +1.")
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--set", "knobs", multiple=True, metavar="KNOB=VALUE", help="patience=4s, ...")
@click.option("--supervised", is_flag=True, hidden=True)
def run(
    target: str,
    processes: int,
    metrics_port: int | None,
    log_format: str | None,
    knobs: tuple[str, ...],
    supervised: bool,
    **options: Any,
) -> int:
    r"""Run a worker: one that a module defines, or one that delivers a STREAM to a sink.

    \b
    kstream run consumers.archive:worker --processes 4
    kstream run local:shop.db#orders --group archive --to file:archive --roll 64MiB,5m

    The working directory is on sys.path. SIGTERM and Ctrl-C drain: what is in hand is finished,
    checkpointed, and the leases handed over. A process that dies is started again.
    """
    settings = _knobs(knobs)
    if metrics_port is not None:
        settings["metrics_port"] = metrics_port
    if log_format is not None:
        settings["log_format"] = log_format
    resolved = load_settings(settings)
    worker = _worker(target, _Options(**options), settings)
    configure_logging(resolved.settings.log_format, resolved.settings.log_level)
    if processes > 1:
        return Supervisor(
            _without_processes(sys.argv[1:]),
            processes,
            first_port=resolved.settings.metrics_port,
            patience=resolved.settings.drain_s + 10,
        ).run()
    if supervised:
        stop_when_orphaned()
    worker.run()
    return DONE


def _knobs(given: tuple[str, ...]) -> dict[str, Any]:
    knobs = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in KNOBS:
            raise UsageError(f"--set {text}: write KNOB=VALUE (knobs: {', '.join(KNOBS)})")
        knobs[name] = value
    return knobs


def _worker(target: str, options: _Options, settings: dict[str, Any]) -> Worker[Any]:
    if target.startswith(_URL_SCHEMES):
        return _built(target, options, settings)
    if given := options.given():
        raise UsageError(f"{', '.join(given)}: {target} says that itself; it is for a STREAM")
    worker = _imported(target)
    worker.configure(**settings)  # the operator's word is the last
    return worker


def _built(stream: str, options: _Options, settings: dict[str, Any]) -> Worker[Any]:
    parse_url(stream)
    if options.group is None or not options.to:
        raise UsageError(f"kstream run {stream} needs --group NAME and --to file:DIR")
    letters = options.dead_letters
    worker: Worker[Any] = Worker(
        stream,
        group=options.group,
        start="earliest" if options.begin is None else options.begin,
        dedup=options.dedup,
        on_failure="block" if letters is None else f"dead-letter:{letters}",
        leases=options.leases,
        settings=settings,
    )
    for sink in options.to:
        if options.roll is None:
            worker.deliver_to(sink)
        else:
            worker.deliver_to(sink, roll=options.roll)
    return worker


def _imported(target: str) -> Worker[Any]:
    """Return the worker that ``MODULE:NAME`` means."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise UsageError(f"{target!r}: write MODULE:WORKER, as in consumers.archive:worker")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, and something that it imports is not
        raise UsageError(f"there is no module {module_name} in {here} or installed") from None
    found = getattr(module, name, None)
    if not isinstance(found, Worker):
        workers = [key for key, value in vars(module).items() if isinstance(value, Worker)]
        shown = ", ".join(f"{module_name}:{key}" for key in workers) or "none"
        raise UsageError(f"{target} is no kstream.Worker (workers there: {shown})")
    return found


def _without_processes(arguments: list[str]) -> list[str]:
    """Return the command line of one of the processes."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in {"--processes", "-p"}:
            next(rest, None)
        elif not argument.startswith(("--processes=", "-p")):
            kept.append(argument)
    return kept
