"""Bugs planted into the peer: the judges of a shared KCL table see each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from kstream.leases.kcl import balance, keeper, marks, peer
from kstream.leases.kcl.items import KclLease

from .test_kcl import played

WITHIN = 25
"""Seeds within which a bug has to show."""


def children_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A child is read before its parent is finished."""
    take, look = peer.KclPeer._take, peer.KclPeer._do_our_part

    async def careless(self: peer.KclPeer, lease: KclLease, *told: object, **more: object) -> bool:
        return await take(self, replace(lease, parents=()), *told, **more)  # type: ignore[arg-type]  # as called

    async def looks(self: peer.KclPeer, leases: peer.Leases, seen: list[balance.Seen]) -> None:
        orphans = {shard: replace(lease, parents=()) for shard, lease in leases.items()}
        await look(self, orphans, seen)

    patch.setattr(peer.KclPeer, "_take", careless)
    patch.setattr(peer.KclPeer, "_do_our_part", looks)


def the_deadline_never_comes(patch: pytest.MonkeyPatch) -> None:
    """Who is cut off from the table works on."""

    class Endless(keeper.Holding):
        deadline = property(
            lambda self: float("-inf") if self.why else float("inf"), lambda self, value: None
        )

    patch.setattr(peer, "Holding", Endless)


def marks_are_never_void(patch: pytest.MonkeyPatch) -> None:
    """What a Java peer processed since is handled again."""

    def believing(lease: KclLease) -> marks.Kept | None:
        return None if lease.marks is None else marks._DECODER.decode(lease.marks)

    patch.setattr(marks, "decode_marks", believing)


def the_next_owner_begins_at_the_front(patch: pytest.MonkeyPatch) -> None:
    """Another's checkpoint is taken for none."""
    row_of = marks.row_of

    def forgetful(lease: KclLease, *told: object) -> object:
        return replace(row_of(lease, *told), marks={}, parent_was_open=True)  # type: ignore[arg-type]  # as called

    patch.setattr(peer, "row_of", forgetful)


@pytest.mark.parametrize(
    ("bug", "shows"),
    [
        (children_do_not_wait, "order"),
        (the_deadline_never_comes, "beyond its lease"),
        (marks_are_never_void, "behind its checkpoint"),
        (the_next_owner_begins_at_the_front, "behind its checkpoint"),
    ],
    ids=lambda bug: getattr(bug, "__name__", ""),
)
def test_a_planted_bug_is_seen(
    bug: Callable[[pytest.MonkeyPatch], None], shows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that cannot find anything proves nothing."""
    bug(monkeypatch)
    for seed in range(WITHIN):
        try:
            found, _ = played(seed)
        except Exception:  # noqa: BLE001 - a bug may also end in an error; the judges are tested
            continue
        if any(shows in what for what in found):
            return
    pytest.fail(f"{bug.__name__} did not show in {WITHIN} seeds")
