"""The root command, and how anything that goes wrong becomes one or two lines and an exit code.

0    done
1    failed, or `verify` or `doctor` found something
2    the call or a setting is wrong: mend it
3    a service or file does not answer: try again
130  interrupted (Ctrl-C)
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, ParamSpec

import click

from ..errors import (
    ConfigError,
    CorruptStore,
    KstreamError,
    MissingExtra,
    RetryableError,
    StorageFull,
    UnknownFormat,
    UsageError,
)

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "UNAVAILABLE",
    "USAGE",
    "awaited",
    "execute",
    "loaded",
    "program",
]

P = ParamSpec("P")

_MODULES: Final = (
    "running",
    "records",
    "streams",
    "adjusting",
    "groups",
    "checkpoints",
    "delivery",
    "diagnosis",
)

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
INTERRUPTED: Final = 130

_ADVICE: Final[tuple[tuple[type[KstreamError], str], ...]] = (
    (MissingExtra, ""),
    (ConfigError, "kstream doctor shows each setting and where it came from"),
    (UsageError, ""),
    (RetryableError, "nothing is wrong with the call: try it again"),
    (StorageFull, "free some space, then try again; nothing acknowledged was lost"),
    (UnknownFormat, "it was written by a newer kstream: upgrade this one"),
    (CorruptStore, "keep a copy, then see GUARANTEES.md on damaged files"),
)


def _version() -> str:
    try:
        return version("kstream")
    except PackageNotFoundError:
        return "unknown (not installed)"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 failed, or something was found; 2 wrong call or setting; "
    "3 unavailable, try again; 130 interrupted.",
)
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.version_option(_version(), prog_name="kstream")
def program(debug: bool) -> None:
    """Sharded streams: produce, consume, reshard, deliver, verify.

    A stream is named by a URL: local:PATH#NAME is a durable stream in a SQLite file.
    """


def awaited(command: Callable[P, Coroutine[Any, Any, int | None]]) -> Callable[P, int | None]:
    """Return *command* as the plain function that click calls."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int | None:
        return asyncio.run(command(*args, **kwargs))

    return run


def loaded() -> click.Group:
    """Return the root command with every command; each module adds its own."""
    for module in _MODULES:
        import_module(f"{__package__}.{module}")
    return program


def execute(arguments: Sequence[str]) -> int:
    """Run the command line *arguments* and return the exit code. Never raises an `Exception`."""
    try:
        code = loaded().main(list(arguments), prog_name="kstream", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the last place that can explain it)
        if _reader_left(error):
            # `kstream tail ... | head` took what it wanted: no error of ours. What is still
            # buffered goes nowhere, or the interpreter would complain on its way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        if "--debug" in arguments:
            traceback.print_exc()
        return _explain(error)
    return code if isinstance(code, int) else DONE


def _reader_left(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_reader_left(inner) for inner in error.exceptions)
    return isinstance(error, BrokenPipeError)


def _explain(error: Exception) -> int:
    """Print *error* in one or two lines; return its exit code."""
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions[0]
        return _explain(inner if isinstance(inner, Exception) else RuntimeError(str(inner)))
    if not isinstance(error, KstreamError):
        _complain(f"{type(error).__name__}: {error}", "kstream --debug ... shows where")
        return FAILED
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    _complain(str(error), advice)
    for note in getattr(error, "__notes__", ()):
        click.echo(f"  {note}", err=True)
    if isinstance(error, UsageError):
        return USAGE
    return UNAVAILABLE if isinstance(error, RetryableError) else FAILED


def _complain(what: str, advice: str) -> None:
    click.echo(f"kstream: {what}", err=True)
    if advice:
        click.echo(f"  {advice}", err=True)
