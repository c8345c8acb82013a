"""A proxy that makes a service as unreliable as a network is: for tests of what stands on it.

It passes requests on byte for byte, so that signatures hold (the client signs the proxy's address,
and the service sees that as Host), and does to some of them what the rules say.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from .faulting import Fault, Rule, Target, chosen, refusal, target_of
from .http1 import HEAD_LIMIT, Cut, Message, body_of, read_head
from .link import Link
from .parting import parted

__all__ = ["Fault", "FaultProxy", "Rule"]

_REFUSED = {Fault.THROTTLE, Fault.ERROR, Fault.UNAVAILABLE, Fault.CONFLICT}


class FaultProxy:
    """Stands before the service at *url*; clients talk to ``FaultProxy.url``.

    Used as an async context manager: it serves until the block is left.
    """

    def __init__(self, url: str, rules: Sequence[Rule], chance: random.Random) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._upstream = (parts.hostname, parts.port or 80)
        self._rules = list(rules)
        self._spent: dict[int, int] = {}
        self._chance = chance
        self._clients: dict[StreamWriter, Link] = {}
        self.calm = False
        """Whether everything is passed on as it comes."""
        self.requests: Counter[str] = Counter()
        """How many came, by action."""
        self.faults: Counter[Fault] = Counter()
        """What was done to them."""
        self.done: Counter[tuple[str, Fault]] = Counter()
        """The same, by action."""

    @property
    def url(self) -> str:
        """Where clients find the service."""
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT, backlog=1000
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for client, link in list(self._clients.items()):
            client.transport.abort()
            link.close()
        while self._clients:
            await asyncio.sleep(0.001)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client's connection, with one to the service beside it."""
        link = self._clients[writer] = Link(*self._upstream)
        try:
            while (request := await read_head(reader)) is not None:
                if request.header("expect").strip().lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request = request.without("expect")
                request.body = await body_of(request, reader)
                await self._answer(request, link, writer)
                await writer.drain()
        except (Cut, ConnectionError):
            writer.transport.abort()
        finally:
            link.close()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            del self._clients[writer]

    async def _answer(self, request: Message, link: Link, writer: StreamWriter) -> None:
        target = target_of(request)
        self.requests[target.action] += 1
        rules = [] if self.calm else chosen(self._rules, self._spent, target, self._chance)
        for rule in rules:
            if rule.fault is Fault.DELAY:
                self._note(rule, target)
                await asyncio.sleep(self._chance.uniform(0, rule.seconds))
            elif rule.fault is Fault.TORN:
                self._note(rule, target)
                await link.relay(request, writer, torn=self._chance)
            else:
                try:
                    answer = await self._harmed(rule, target, request, link)
                except Cut:
                    self._note(rule, target)
                    raise
                if answer is not None:
                    self._note(rule, target)
                    writer.write(answer.head + answer.body)
                    return
        await link.relay(request, writer)

    async def _harmed(
        self, rule: Rule, target: Target, request: Message, link: Link
    ) -> Message | None:
        """Do what *rule* says and return the answer; ``None``: it cannot be done to this request.

        Raises `Cut` where there is to be no answer.
        """
        fault = rule.fault
        if fault is Fault.CUT:
            raise Cut
        if fault in _REFUSED:
            return refusal(target, fault, request)
        if fault is Fault.PARTIAL:
            part = parted(target, request, rule.entries, self._chance)
            if part is None:
                return None
            answer = None if part.request is None else await link.ask(part.request)
            if answer is not None and answer.words[1] != "200":
                return answer
            return part.joined(answer)
        answer = await link.ask(request)
        if fault is Fault.LOST:
            raise Cut
        if fault is Fault.TWICE:
            return await link.ask(request)
        return refusal(target, Fault.ERROR, request)

    def _note(self, rule: Rule, target: Target) -> None:
        self.faults[rule.fault] += 1
        self.done[target.action, rule.fault] += 1
