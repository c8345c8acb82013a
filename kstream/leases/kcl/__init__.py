"""Working inside the lease table of a running KCL 2.x application (`kcl2-peer`)."""

from __future__ import annotations

from .opening import KclTeam, open_peer

__all__ = ["KclTeam", "open_peer"]
