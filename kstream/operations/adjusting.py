"""What can be changed about a stream beside its shards, where its service has such settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from ..errors import UsageError
from ..ports.stream import Stream

__all__ = ["Settings", "Telling", "described", "settings_of", "tell"]


class Settings(Protocol):
    """The settings of one stream. Each change is waited for."""

    async def describe(self) -> Struct:
        """Return what the service says about the stream."""
        ...

    async def set_retention(self, retention: str | float) -> None:
        """Keep records for *retention*. Shortening it deletes records."""
        ...

    async def encrypt(self, key: str) -> None:
        """Encrypt new records with *key*."""
        ...

    async def decrypt(self) -> None:
        """Encrypt new records no longer."""
        ...

    async def set_mode(self, mode: Literal["PROVISIONED", "ON_DEMAND"]) -> None:
        """Say who decides how many shards there are."""
        ...

    async def set_largest(self, size: int) -> None:
        """Take records of up to *size* bytes."""
        ...

    async def consumers(self) -> Sequence[Struct]:
        """Return the registered fan-out consumers."""
        ...

    async def register_consumer(self, name: str) -> Struct:
        """Register a fan-out consumer."""
        ...

    async def deregister_consumer(self, name: str) -> None:
        """Deregister a fan-out consumer. Raises `NotFound`."""
        ...


@runtime_checkable
class _Adjustable(Protocol):
    settings: Settings


@runtime_checkable
class Telling(Protocol):
    """What tells, in words, what it waits for."""

    progress: Callable[[str], None]


def settings_of(stream: Stream) -> Settings:
    """Return the settings of *stream*. Raises `UsageError` if it has none."""
    if not isinstance(stream, _Adjustable):
        raise UsageError("this is a setting of Kinesis streams only")
    return stream.settings


async def described(stream: Stream) -> Struct:
    """Return what *stream*, or its service, says about itself."""
    if isinstance(stream, _Adjustable):
        return await stream.settings.describe()
    return await stream.facts()


def tell(changing: object, told: Callable[[str], None]) -> None:
    """Let *changing* tell what it waits for, if it waits for anything."""
    if isinstance(changing, Telling):
        changing.progress = told
