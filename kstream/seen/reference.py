"""What a stored run is called: whose it is, then the digest of its content."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["is_content_of", "run_reference"]


def run_reference(name: str, run: bytes) -> str:
    """Return the reference of *run*.

    The same run gets the same reference, so an append whose answer was lost can be repeated.
    """
    return f"{name}/{_digest(run)}"


def is_content_of(ref: str, run: bytes) -> bool:
    """Return whether *run* is what was stored under *ref*."""
    return ref.rpartition("/")[2] == _digest(run)


def _digest(run: bytes) -> str:
    return blake2b(run, digest_size=16).hexdigest()
