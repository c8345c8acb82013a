"""Every shard of a stream: the pages of ListShards, put together."""

from __future__ import annotations

from typing import Final

from ..core.lineage import Lineage
from ..errors import IncompleteListing
from ..shard import Shard
from .api import ExpiredToken, KinesisApi

__all__ = ["list_shards"]

_RESTARTS: Final = 3


async def list_shards(api: KinesisApi, *, ring: bool = True) -> Lineage:
    """Return all shards of all pages. Whether they tile the ring is for the caller to check.

    A page token that is too old starts the listing over: the pages of two listings do not belong
    together. Raises `IncompleteListing` where that does not end or shards contradict each other,
    else as `KinesisApi.list_shards`.
    """
    for _ in range(_RESTARTS):
        shards: list[Shard] = []
        token: str | None = None
        try:
            while True:
                page = await api.list_shards(token)
                shards += page.shards
                if (token := page.next_token) is None:
                    return Lineage(shards, ring=ring)
        except ExpiredToken:
            continue
    raise IncompleteListing(f"the pages of a listing expired {_RESTARTS} times")
