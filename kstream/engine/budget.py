"""One budget of bytes for a worker, shared by its readers.

Bytes are reserved before a fetch and given back when their records are settled. Each account
may hold its share of what the others leave (one that was alone may hold more than its share is
by now); an account at the tip of a quiet shard counts for next to nothing, so a thousand idle
shards leave the room to the busy one. An account that holds nothing may always fetch a little:
the budget can slow work down and never stop it.
"""

from __future__ import annotations

import asyncio

__all__ = ["Account", "Budget"]

_IDLE = 16 << 10
_LEAST = 64 << 10
_SMALLEST = 4
"""A fetch into a share that is partly used asks for this part of it, at least."""


class Budget:
    """Shares *limit* bytes among its accounts."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used: int = 0
        """Bytes held and reserved."""
        self._accounts: dict[Account, None] = {}
        self._waiting: dict[Account, asyncio.Event] = {}
        self._busy = 0

    @property
    def share(self) -> int:
        """Bytes that one busy account may hold now."""
        idle = len(self._accounts) - self._busy
        return max(_LEAST, (self.limit - idle * _IDLE) // max(1, self._busy))

    def open(self) -> Account:
        """Return a new account."""
        account = Account(self)
        self._accounts[account] = None
        return account

    def close(self, account: Account) -> None:
        """Give back all that *account* holds, and forget it."""
        if account in self._accounts:
            self.mark_busy(account, busy=False)
            self.hold(account, -account.held)
            del self._accounts[account]
            self.wake()

    def hold(self, account: Account, count: int) -> None:
        """Have *account* hold *count* bytes more, or less. What comes late to a closed one
        changes nothing."""
        if account in self._accounts:
            account.held += count
            self.used += count

    def mark_busy(self, account: Account, *, busy: bool) -> None:
        """Count *account* among those that need a share, or not."""
        if account.busy != busy:
            account.busy = busy
            self._busy += 1 if busy else -1

    async def change(self, account: Account) -> None:
        """Wait until there may be more room for *account*."""
        event = self._waiting[account] = asyncio.Event()
        try:
            await event.wait()
        finally:
            self._waiting.pop(account, None)

    def wake(self) -> None:
        """Let those who wait look again: somebody gave something back."""
        for event in self._waiting.values():
            event.set()


class Account:
    """What one reader holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._step = _IDLE
        self.held: int = 0
        self.busy = False
        self.unlimited = False
        """Set while a span that was begun must be held whole, whatever its size."""

    @property
    def full(self) -> bool:
        """Whether this account holds so much of its share that another fetch must wait."""
        if self.unlimited or self.held <= 0:
            return False
        # A fetch may be smaller than the last one; not so small that nothing but calls is left.
        return self._room < min(self._step, self._budget.share // _SMALLEST)

    @property
    def _room(self) -> int:
        budget = self._budget
        return min(budget.share - self.held, budget.limit - budget.used)

    async def reserve(self, most: int) -> int:
        """Wait for room; return the bytes reserved, *most* at the most."""
        while self.full:
            await self._budget.change(self)
        reserved = min(self._step, most, max(self._room, _IDLE))
        self._budget.hold(self, reserved)
        return reserved

    def fetched(self, reserved: int, got: int) -> None:
        """Replace a reservation by what came. Full fetches make the next one larger."""
        self._budget.hold(self, got - reserved)
        if got == 0:
            self._step = _IDLE
        elif got * 2 >= reserved:
            self._step = min(self._step * 8, 64 << 20)
        self._budget.mark_busy(self, busy=self.held > 0)
        self._budget.wake()

    def release(self, count: int) -> None:
        """Give back *count* bytes."""
        self._budget.hold(self, -count)
        if self.held <= 0:
            self._budget.mark_busy(self, busy=False)
        self._budget.wake()

    def close(self) -> None:
        """Give everything back."""
        self._budget.close(self)
