"""Objects in Amazon S3, and in stores that speak as it does and honour ``If-None-Match``.

Importing this loads no library of AWS; opening a bucket does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .options import S3_KEYS, S3Options, parse_options, parse_place

if TYPE_CHECKING:
    from .store import S3Objects

__all__ = ["S3_KEYS", "S3Options", "open_s3"]


async def open_s3(path: str, query: Mapping[str, str], *, writes: bool = True) -> S3Objects:
    """Return the objects under *path* (``BUCKET/PREFIX``), found and, for *writes*, probed.

    Without *writes* nothing is put there before the first `put_if_absent`, which probes then: whoever
    only reads (``verify``) needs no right to write. Query keys beside `S3_KEYS` are ignored.

    Raises `ConfigError` for a bucket that is not there or refuses us, and for a store that lets
    objects be overwritten; `Unavailable` if it does not answer.
    """
    options = parse_options(query)
    bucket, prefix = parse_place(path)
    from .store import S3Objects

    store = S3Objects(bucket, prefix, options, chance=random.Random())
    try:
        await store.reach()
        if writes:
            await store.open()
    except BaseException:
        await store.aclose()
        raise
    return store
