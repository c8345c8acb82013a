"""Bugs on purpose: each a patch of at most five lines to shipped code that still runs.

Run as a program in a fresh interpreter, it plants one bug before anything of kstream is imported
and plays seeds of the general generator until a history checker finds it:

    python -m tests.simulation.planted "child before parent" 0 300 memory
"""

from __future__ import annotations

import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

__all__ = ["BUGS", "Edit", "main"]

MOST_LINES = 5


class Edit(NamedTuple):
    """In *module*, *old*, which stands there once, becomes *new*."""

    module: str
    old: str
    new: str

    def apply(self, source: str) -> str:
        """Return *source* with the bug. Raises `ValueError` if its target is gone."""
        if source.count(self.old) != 1:
            times = source.count(self.old)
            raise ValueError(f"{self.module}: the target stands there {times} times: {self.old!r}")
        return source.replace(self.old, self.new)

    @property
    def size(self) -> int:
        """How many lines it changes."""
        diff = difflib.ndiff(self.old.splitlines(), self.new.splitlines())
        marks = [line[0] for line in diff]
        return max(marks.count("+"), marks.count("-"))


class _Planting(importlib.machinery.SourceFileLoader):
    """Compiles a module with its edits, whatever bytecode is cached."""

    edits: Sequence[Edit] = ()

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = Path(path).read_text(encoding="utf-8")
        for edit in self.edits:
            source = edit.apply(source)
        return compile(source, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, edits: Mapping[str, Sequence[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._edits:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        loader = _Planting(fullname, spec.origin)
        loader.edits = self._edits[fullname]
        spec.loader = loader
        return spec


def plant(edits: Sequence[Edit]) -> None:
    """Have the modules of *edits* imported with them."""
    by_module: dict[str, list[Edit]] = {}
    for edit in edits:
        assert edit.module not in sys.modules, f"{edit.module} was imported before"
        by_module.setdefault(edit.module, []).append(edit)
    sys.meta_path.insert(0, _Finder(by_module))


TENURE = "kstream.core.tenure"
LEASING = "kstream.engine.leasing"
DELIVERY = "kstream.engine.delivery"
DEDUP = "kstream.core.dedup"

BUGS: dict[str, tuple[Edit, ...]] = {
    "child before parent": (
        Edit(
            TENURE,
            "if not lease.ended and all(done(parent) for parent in lease.parents)",
            "if not lease.ended",
        ),
    ),
    "merge child after one parent": (
        Edit(
            TENURE,
            "if not lease.ended and all(done(parent) for parent in lease.parents)",
            "if not lease.ended and (not lease.parents or any(map(done, lease.parents)))",
        ),
    ),
    "checkpoint before settlement": (
        Edit(
            "kstream.core.progress",
            "                return first.batch.records[prefix - 1].position\n"
            "        return self._through",
            "                return first.batch.records[prefix - 1].position\n"
            "        return self._tip",
        ),
    ),
    "checkpoint without fencing": (
        Edit(
            TENURE,
            "        and row.owner == lease.owner\n        and row.token == lease.token\n",
            "",
        ),
        Edit(LEASING, "        if self._over(held):\n", "        if held.lost:\n"),
    ),
    "LATEST resolved again at failover": (
        Edit(
            "kstream.engine.groups",
            "    return row, facts\n",
            "    return replace(row, start=await _resolved(stream, start)), facts\n",
        ),
    ),
    "children of a LATEST group at the horizon": (
        Edit(
            TENURE,
            "parent_was_open=instant is not None and shard.opened_at > instant,",
            "parent_was_open=instant is not None and bool(shard.parents),",
        ),
    ),
    "exception skips a batch": (
        Edit(
            "kstream.engine.processing",
            "                await self._search(slot, batch, 0, left)\n",
            "                self._room.set()\n",
        ),
    ),
    "dedup ID added before the effect": (
        Edit(
            "kstream.engine.remembering",
            "self._unstored = self._window.cut(upto)",
            "self._unstored = self._window.cut(Position(1 << 62))",
        ),
    ),
    "dedup blind to records in flight": (
        Edit(
            DEDUP,
            "        known.update(numbers)\n        if len(known) - before == len(numbers):\n",
            "        if len(known) == before:\n",
        ),
        Edit(
            DEDUP,
            "        end = bisect_right(range(len(self._numbers)), place, key=self._place)\n",
            "        end = bisect_right(range(len(self._numbers)), place, key=self._place)\n"
            "        self._known.update(self._numbers[:end])\n",
        ),
    ),
    "replayed dead letter swallowed": (
        Edit(
            "kstream.core.fingerprint",
            'if replay else b"\\x01"',
            'if replay < 0 else b"\\x01"',
        ),
    ),
    "window not inherited over a split": (
        Edit(TENURE, "windows=tuple(windows),", "windows=() if windows else (),"),
    ),
    "object named by time": (
        Edit(
            "kstream.sinks.spans",
            "name = self._chain.object(self._batch.after, self._format.extension)",
            'name = self._chain.object(self._batch.after, f".{self._batch.read_until}.jsonl")',
        ),
    ),
    "two commits in flight": (
        Edit(
            DELIVERY,
            "                await self._deliver(self._roller.take(), reason)\n",
            "                flight = asyncio.ensure_future("
            "self._deliver(self._roller.take(), reason))\n"
            "                waits = self._halt.draining.is_set() or isinstance(item, ShardEnded)\n"
            "                before, self.flight = getattr(self, 'flight', flight), flight\n"
            "                await asyncio.wait([before, flight] if waits else [before])\n",
        ),
    ),
    "adoption that seeks": (
        Edit(
            DELIVERY,
            "whole, batch = batch, self._deduplicated(batch)",
            "whole, batch = batch, "
            "batch if batch.after < self._adopted else self._deduplicated(batch)",
        ),
    ),
    "dead letter after its object": (
        Edit(
            "kstream.engine.outlets",
            "                await self._leave_out(batch.records[failed.index], failed)\n",
            "                self.late = [*getattr(self, 'late', ()), "
            "(batch.records[failed.index], failed)]\n",
        ),
        Edit(
            "kstream.engine.outlets",
            "        return await self._sink.commit(prepared)\n",
            "        done = await self._sink.commit(prepared)\n"
            "        while getattr(self, 'late', ()):\n"
            "            await self._leave_out(*self.late.pop())\n"
            "        return done\n",
        ),
    ),
    "empty batch without marker": (
        Edit(
            "kstream.sinks.chain",
            "        if batch.last <= batch.after:\n            if batch.records:\n",
            "        if not batch.records:\n            if batch.records:\n",
        ),
    ),
    "lease kept past its deadline": (
        Edit(
            "kstream.engine.heart",
            "self.deadline = sent + self._tuning.patience - self._tuning.margin",
            "self.deadline = sent + 10 * self._tuning.patience",
        ),
    ),
    "take without a death certificate": (
        Edit(
            "kstream.engine.membership",
            "return silent <= beat.patience or not await self._certify(beat)",
            "return silent <= beat.patience",
        ),
        Edit(LEASING, "not isinstance(beat, Heartbeat) or beat.dead", "True"),
    ),
    "write applied-but-unacknowledged taken for a loss of the lease": (
        Edit(
            LEASING,
            "            [row] = await self._patient(held, lambda: self._store.swap([change]))"
            "  # noqa: B023\n            if stands(change, row):\n",
            "            tried: list[Change] = []\n"
            "            [row] = await self._patient(held, lambda: self._store.swap("
            "[tried.append(change) or change]))\n"
            "            if stands(change, row) and len(tried) == 1:\n",
        ),
        Edit(
            LEASING,
            "            if not still_ours(row, held.lease):\n                why",
            "            if len(tried) > 1 or not still_ours(row, held.lease):\n                why",
        ),
    ),
    "finished childless shard forgotten": (
        Edit(
            TENURE,
            "            and since is not None\n            and now - since > keep\n"
            "            and bool(own)\n",
            "            and (not own or (since is not None and now - since > keep))\n",
        ),
    ),
    "ended parent forgotten while still listed": (
        Edit(
            TENURE,
            "            and since is not None\n            and now - since > keep\n",
            "",
        ),
    ),
    "stale listing without the parent believed": (
        Edit(
            TENURE,
            "return since >= 2 and shard not in self._last and shard not in self._before",
            "return shard not in self._last",
        ),
        Edit(
            TENURE,
            "if self._last is None or self._before is None:",
            "if self._last is None:",
        ),
    ),
}
"""The 22 of the project's specification, by name."""

COURSE = "kstream.kinesis.course"

KINESIS_BUGS: dict[str, tuple[Edit, ...]] = {
    "restart AFTER instead of AT": (
        Edit(
            COURSE,
            "from .api import AtInstant, AtSequence,",
            "from .api import AfterSequence, AtInstant, AtSequence,",
        ),
        Edit(COURSE, "return AtSequence(self._anchor)", "return AfterSequence(self._anchor)"),
    ),
    "restart at the settled instead of the handed-over position": (
        Edit(
            COURSE,
            '        """The Kinesis record that is sought; negative: none, the start is."""\n',
            "        self._settled = self._anchor\n",
        ),
        Edit(
            COURSE,
            "        self._sought = self._filters = True\n"
            "        if self._anchor >= 0:\n"
            "            return AtSequence(self._anchor)\n",
            "        self._sought, self._filters = True, self._anchor == self._settled\n"
            "        if self._settled >= 0:\n"
            "            return AtSequence(self._settled)\n",
        ),
        # The engine has a guard of its own against it.
        Edit(
            "kstream.core.batching",
            "return not records or (tip < records[0].position and records[-1].position <= batch.last)",
            "return not records or records[-1].position <= batch.last",
        ),
    ),
    "aggregate dropped for one out-of-range record": (
        Edit("kstream.kinesis.user_records", "if strays and self._drops:", "if strays:"),
    ),
    "throttled records of a key sent after later ones": (
        Edit(
            "kstream.kinesis.putting",
            "                held.puts.append(put)\n",
            "                ready.append(put)\n",
        ),
    ),
    "end of a push subscription taken for the end of the shard": (
        Edit(
            "kstream.kinesis.fanout",
            "            case None if feed.planned or feed.age >= _HEALTHY:\n"
            "                return\n",
            "            case None:\n                self._children = ()\n                return\n",
        ),
    ),
    "an applied DynamoDB write with a lost answer taken for a loss": (
        Edit(
            "kstream.leases.dynamodb",
            "            return None if refused.item is None else _body(refused.item)\n",
            "            return None\n",
        ),
    ),
}
"""The six more that only the ground of AWS can show."""


def main(arguments: Sequence[str]) -> None:
    """Plant the bug named first, play seeds FIRST to LAST on GROUND, print the finding as JSON."""
    name, first, last, ground = arguments
    os.nice(10)  # tests that judge time may run beside it
    plant((BUGS | KINESIS_BUGS)[name])
    from kstream.testing.play import Grounds, run_seed

    where: Grounds = "kinesis" if ground == "kinesis" else "memory"

    answer: dict[str, object] = {"bug": name, "seeds": 0, "seed": None, "kinds": []}
    for number, seed in enumerate(range(int(first), int(last)), 1):
        answer["seeds"] = number
        try:
            verdict = run_seed(seed, ground=where)
        except Exception as error:  # noqa: BLE001 - a crash is no finding: the next seed may be one
            answer["crash"] = f"{type(error).__name__}: {error}"
            continue
        kinds = list(dict.fromkeys(each.kind for each in verdict.violations))
        # That nothing goes on is no broken promise of the history.
        if kinds and kinds != ["stuck"]:
            answer |= {"seed": seed, "kinds": kinds, "detail": verdict.violations[0].detail}
            break
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
