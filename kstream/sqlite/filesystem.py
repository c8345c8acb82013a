"""Which kind of file system a path lies on: SQLite's WAL needs memory shared by its processes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["NETWORK", "filesystem_type", "is_network"]

NETWORK: Final = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre")
    + ("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "webdav")
    + ("rclone", "s3fs", "sshfs")
)
"""Types whose memory maps or locks are not shared by all machines that mount them."""

_MOUNTS: Final = Path("/proc/self/mounts")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def filesystem_type(path: str) -> str:
    """Return the type of the file system that *path* lies on, as the kernel names it.

    Empty where the system does not tell (no ``/proc``: macOS).
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, found = "", ""
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        mount = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), mount)
        # The longest mount point wins, and of equals the last: it covers the ones before it.
        if len(mount) >= len(best) and (place + "/").startswith(mount.rstrip("/") + "/"):
            best, found = mount, kind
    return found


def is_network(kind: str) -> bool:
    """Return whether *kind* is a network file system (a FUSE one is judged by its subtype)."""
    return kind.removeprefix("fuse.") in NETWORK
