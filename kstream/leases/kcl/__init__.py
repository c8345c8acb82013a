"""Working inside the lease table of a running KCL 2.x application (`kcl2-peer`)."""

from __future__ import annotations

from .opening import KclTeam, open_peer
from .rows import KclRows
from .table import KclTable

__all__ = ["KclRows", "KclTable", "KclTeam", "open_peer"]
