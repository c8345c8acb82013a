"""Credentials that belong to nobody, for clients of servers that ask for none."""

from __future__ import annotations

import os

__all__ = ["nobody"]


def nobody() -> None:
    """Set them, and forget this machine's settings."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["AWS_ACCESS_KEY_ID"] = "AKID"
    os.environ["AWS_SECRET_ACCESS_KEY"] = "secret"
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
