"""What a stored run is called."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["run_reference"]


def run_reference(name: str, run: bytes) -> str:
    """Return the reference of *run*: its name and the digest of its content.

    The same run gets the same reference, so an append whose answer was lost can be repeated.
    """
    return f"{name}/{blake2b(run, digest_size=16).hexdigest()}"
