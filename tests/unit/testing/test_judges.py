"""Judges of ownership, ordinals and starts, on small histories made by hand."""

from __future__ import annotations

from kstream.position import GroupStart, Position
from kstream.shard import ShardId
from kstream.testing.checkers import (
    given_up_for_nothing,
    nothing_before_start,
    ordinals_rise,
    taken_from_the_dead,
)
from kstream.testing.clock import EPOCH
from kstream.testing.histories import (
    Advanced,
    Buried,
    Event,
    GivenUp,
    Granted,
    Handled,
    History,
    Produced,
    Released,
    covers,
)

A = ShardId("a")


def granted(worker: str, token: int, previous: str | None = None) -> Granted:
    return Granted(worker=worker, shard=A, token=token, identity=f"{worker}.1", previous=previous)


def given_up(worker: str) -> GivenUp:
    return GivenUp(worker=worker, shard=A, why="another worker owns it")


def advanced(position: int, ordinal: int, consumer: str = "handler") -> Advanced:
    return Advanced(
        worker="w1",
        shard=A,
        token=1,
        consumer=consumer,
        position=Position(position),
        ordinal=ordinal,
    )


def test_a_lease_is_given_up_to_another_owner_only_if_there_is_one() -> None:
    honest: list[Event] = [granted("w1", 1), granted("w2", 2), given_up("w1"), Released(shard=A)]
    assert given_up_for_nothing(History(honest)) == []
    assert [v.kind for v in given_up_for_nothing(History([*honest[:2], given_up("w2")]))] == [
        "lost for nothing"
    ]


def test_nobody_alive_is_robbed() -> None:
    taken = granted("w2", 2, previous="w1.1")
    assert taken_from_the_dead(History([granted("w1", 1), Buried(worker="w1.1"), taken])) == []
    assert [v.kind for v in taken_from_the_dead(History([granted("w1", 1), taken]))] == ["robbed"]
    again = granted("w1", 2, previous="w1.1")
    assert taken_from_the_dead(History([again])) == []


def test_an_ordinal_is_a_function_of_the_log() -> None:
    assert ordinals_rise(History([advanced(1, 10), advanced(2, 11, "sink")])) == []
    assert ordinals_rise(History([advanced(1, 10), advanced(1, 11, "sink")]))
    assert ordinals_rise(History([advanced(1, 10), advanced(2, 10)]))


def test_what_lies_before_the_start_is_not_handled() -> None:
    early = Produced(shard=A, position=Position(1), time=1.0)
    handled = Handled(consumer="handler", shard=A, position=Position(1), worker="w1")
    for start, covered in (
        (GroupStart(), True),
        (GroupStart(positions={A: Position(1)}), False),
        (GroupStart(positions={A: Position(0)}), True),
        (GroupStart(instant=EPOCH + 1000), True),
        (GroupStart(instant=EPOCH + 1001), False),
    ):
        assert covers(start, early) is covered
        history = History([early, handled]).covered_by(start)
        assert bool(nothing_before_start(history, ["handler"])) is not covered
