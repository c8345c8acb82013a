"""The few knobs, where each value came from, and the one order of precedence:

    argument > URL query > KSTREAM_* environment > kstream.toml > default

Durations are written ``250ms``, ``6s``, ``5m`` or as plain seconds, sizes ``64MiB`` or as plain
bytes. Everything is checked before anything starts.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from .clock import parse_duration, parse_size
from .engine.tuning import OnDataLoss, Tuning
from .errors import ConfigError
from .ports.leases import Pace

__all__ = ["KNOBS", "Resolved", "Settings", "load_settings", "override"]


_DEFAULT: Final = "default"
"""The origin of what nobody set."""


class Settings(Struct, frozen=True, kw_only=True):
    """What may be set about a worker. The defaults suit one region and one machine alike."""

    patience_s: float = 6.0
    """How long a worker's heartbeat may stand still before others declare it dead. Shorter fails
    over sooner; longer forgives longer pauses."""
    sync_s: float = 0.5
    """Between two looks at the group's rows."""
    checkpoint_s: float = 1.0
    """Between two checkpoints of one shard: what is handled again after a crash."""
    drain_s: float = 25.0
    """How long shutting down or handing over may take to finish what is in hand."""
    budget_bytes: int = 128 << 20
    """Bytes of records that one worker holds in memory."""
    on_data_loss: OnDataLoss = "stop"
    """What to do when records were trimmed before they were read: ``stop`` stands still before
    the loss, visibly, until somebody decides; ``continue`` says what was lost and goes on."""
    metrics_port: int = 0
    """Port of /metrics, /healthz and /readyz; 0 serves none."""
    metrics_host: str = "127.0.0.1"
    """Address they listen on."""
    log_format: str = "text"
    """``text`` or ``json``. Only ``kstream run`` configures logging."""
    log_level: str = "info"
    """The least severe message that ``kstream run`` logs."""

    def tuning(self, pace: Pace | None = None) -> Tuning:
        """Return the engine's times and sizes for these settings; *pace* is the lease store's."""
        standard = Tuning()
        share = standard.beat / standard.patience
        if pace is not None:
            share = pace.beat / pace.patience
            standard = replace(standard, idle_checkpoint=pace.idle_checkpoint)
        return replace(
            standard,
            patience=self.patience_s,
            # The beat and the margin keep their share of a shorter patience.
            beat=self.patience_s * share,
            margin=min(standard.margin, self.patience_s / 6),
            sync=self.sync_s,
            checkpoint=self.checkpoint_s,
            drain=self.drain_s,
            budget=self.budget_bytes,
            fetch=min(standard.fetch, max(1, self.budget_bytes // 4)),
        )


class Resolved(Struct, frozen=True):
    """Settings, and for each field the place its value came from, for people."""

    settings: Settings
    origins: dict[str, str]
    ignored: tuple[str, ...] = ()
    """``KSTREAM_*`` variables that mean nothing to this version."""

    def paced(self, pace: Pace | None) -> Resolved:
        """Return these settings at the *pace* of a lease store, where nobody said otherwise."""
        if pace is None:
            return self
        own = {
            "patience_s": pace.patience,
            "sync_s": pace.sync,
            "checkpoint_s": pace.checkpoint,
        }
        changes = {name: own[name] for name in own if self.origins[name] == _DEFAULT}
        origins = self.origins | dict.fromkeys(changes, "default of the lease store")
        return Resolved(replace(self.settings, **changes), origins, self.ignored)


def _duration(value: Any) -> float:
    if isinstance(value, bool):
        raise ConfigError("must be a duration")
    seconds = parse_duration(value)
    if not 0 < seconds < math.inf:
        raise ConfigError("must be longer than nothing and shorter than for ever")
    return seconds


def _size(value: Any) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ConfigError("must be a whole number of bytes")
    size = parse_size(value)
    if size < 1 << 20:
        raise ConfigError("must be 1MiB or more")
    return size


def _port(value: Any) -> int:
    if not str(value).isdecimal() or int(value) > 65535:
        raise ConfigError("must be a port: 1 to 65535, or 0 for none")
    return int(value)


def _host(value: Any) -> str:
    if not str(value).strip():
        raise ConfigError("must name an address, such as 127.0.0.1 or 0.0.0.0")
    return str(value).strip()


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if str(value).lower() not in choices:
            raise ConfigError(f"must be one of {', '.join(choices)}")
        return str(value).lower()

    return parse


KNOBS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "patience": ("patience_s", _duration),
    "sync": ("sync_s", _duration),
    "checkpoint": ("checkpoint_s", _duration),
    "drain": ("drain_s", _duration),
    "budget": ("budget_bytes", _size),
    "on_data_loss": ("on_data_loss", _one_of("stop", "continue")),
    "metrics_port": ("metrics_port", _port),
    "metrics_host": ("metrics_host", _host),
    "log_format": ("log_format", _one_of("text", "json")),
    "log_level": ("log_level", _one_of("debug", "info", "warning", "error")),
}
"""Each knob's name in a URL, in the environment (``KSTREAM_PATIENCE``) and in ``kstream.toml``,
with its field and how it is read."""

_OTHER_VARIABLES: Final = frozenset({"KSTREAM_CONFIG"})


def override(resolved: Resolved, knobs: Mapping[str, Any], origin: str) -> Resolved:
    """Return *resolved* with *knobs* (by name, as text or numbers) on top, as from *origin*.

    Raises `ConfigError` for an unknown knob or a wrong value.
    """
    changes: dict[str, Any] = {}
    for name, value in knobs.items():
        if name not in KNOBS:
            raise ConfigError(f"{origin}: unknown setting {name!r} (known: {', '.join(KNOBS)})")
        field, parse = KNOBS[name]
        changes[field] = parse(value)
    origins = resolved.origins | dict.fromkeys(changes, origin)
    return Resolved(replace(resolved.settings, **changes), origins, resolved.ignored)


def load_settings(
    overrides: Settings | Mapping[str, Any] | None = None,
    *,
    query: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Resolved:
    """Return the settings in force, each with its origin.

    *overrides* are a caller's arguments by knob name (``{"patience": "4s"}``; `None` values are
    not given), or whole `Settings`, which then stand as they are. *query* is a URL's; keys that
    are no knobs are the adapter's and left alone. ``kstream.toml`` is looked for in *directory*
    (the working directory), or is the file that ``KSTREAM_CONFIG`` names.

    Raises `ConfigError` naming the place of a wrong value.
    """
    if isinstance(overrides, Settings):
        return Resolved(overrides, dict.fromkeys(Settings.__struct_fields__, "argument"))
    environ = os.environ if environ is None else environ
    file, stored = _read_file(environ, directory or Path())
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for source, keys in (("argument", given), (str(file), stored)):
        for key in keys:
            if key not in KNOBS:
                raise ConfigError(f"{source}: unknown setting {key!r} (known: {', '.join(KNOBS)})")
    places: list[tuple[str, Mapping[str, Any]]] = [
        ("argument", given),
        ("URL", query or {}),
        ("environment", {key: environ[name] for key, name in _variables() if name in environ}),
        (str(file), stored),
    ]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.__struct_fields__, _DEFAULT)
    for knob, (field, parse) in KNOBS.items():
        for place, found in places:
            if knob in found:
                values[field] = _parsed(place, knob, found[knob], parse)
                origins[field] = f"KSTREAM_{knob.upper()}" if place == "environment" else place
                break
    known = {name for _, name in _variables()} | _OTHER_VARIABLES
    ignored = sorted(name for name in environ if name.startswith("KSTREAM_") and name not in known)
    return Resolved(Settings(**values), origins, tuple(ignored))


def _variables() -> list[tuple[str, str]]:
    return [(knob, f"KSTREAM_{knob.upper()}") for knob in KNOBS]


def _parsed(place: str, knob: str, value: Any, parse: Callable[[Any], Any]) -> Any:
    try:
        return parse(value)
    except ConfigError as error:
        raise ConfigError(f"{place}: {knob} = {value!r}: {error}") from None


def _read_file(environ: Mapping[str, str], directory: Path) -> tuple[Path, dict[str, Any]]:
    named = environ.get("KSTREAM_CONFIG")
    file = Path(named) if named else directory / "kstream.toml"
    try:
        return file, tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"KSTREAM_CONFIG names {file}, which does not exist") from None
        return file, {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
