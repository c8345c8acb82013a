"""A tiny WSGI app for a prefork server: each request puts one record into ``PREFORK_STREAM``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from kstream.sync import Producer

producer = Producer(os.environ["PREFORK_STREAM"])
receipt = producer.put(b"master", key="master")
"""Made and used before the server forks: every worker inherits a producer that is running."""


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Put the query string as a record, or only queue it, and answer with the worker's process ID."""
    data = environ["QUERY_STRING"].encode()
    if environ["PATH_INFO"] == "/later":
        producer.enqueue(data, key="web")
    else:
        producer.put(data, key="web")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
