"""The local stream: an embedded, durable stream for the processes of one machine."""

from __future__ import annotations

from .catalog import create_stream, delete_stream, list_streams
from .stream import LocalStream

__all__ = ["LocalStream", "create_stream", "delete_stream", "list_streams"]
