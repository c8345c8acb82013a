"""What each server does otherwise than the service it stands for, as far as a test meets it.

A conformance test that fails on a server is our fault, or stands here with its reason. Every other
difference that is known is not met by any of our tests.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

__all__ = ["FAULTS", "Fault"]


class Fault(Struct, frozen=True, kw_only=True):
    """One difference: *what* it is, and the conformance *tests* that fail for it."""

    what: str
    tests: tuple[str, ...]
    hangs: bool = False
    """Whether the tests would wait for ever, and are not run."""


FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "kinesis-mock": (),
    "ministack": (),
    "dynamodb-local": (),
    "seaweedfs": (),
}
