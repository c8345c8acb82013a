"""Each judge on tiny histories: it acquits the good ones and names what is wrong in the bad ones."""

from __future__ import annotations

from kstream.position import Position
from kstream.shard import ShardId
from kstream.testing.checkers import (
    Violation,
    checkpoints_forward,
    dedup_exact,
    exactly_once,
    key_order,
    no_late_owner,
    nothing_lost,
    nothing_skipped,
    one_writer,
    written_in_order,
)
from kstream.testing.histories import (
    Advanced,
    DeadLettered,
    Delivered,
    Granted,
    Handled,
    History,
    Produced,
    Reset,
    Resumed,
    Sent,
)

S = ShardId("s")
C = "handler"


def put(n: int, key: str = "k", shard: str = "s", **more: object) -> Produced:
    return Produced(shard=ShardId(shard), position=Position(n), key=key, **more)  # type: ignore[arg-type]  # fields by name


def did(n: int, worker: str = "a", shard: str = "s", time: float = 0) -> Handled:
    return Handled(worker=worker, consumer=C, shard=ShardId(shard), position=Position(n), time=time)


def sent(n: int, value: bytes = b"") -> Delivered:
    return Delivered(consumer=C, shard=S, position=Position(n), value=value, where="object")


def letter(n: int) -> DeadLettered:
    return DeadLettered(consumer=C, shard=S, position=Position(n))


def mark(n: int, worker: str = "a", token: int = 1) -> Advanced:
    return Advanced(worker=worker, shard=S, token=token, consumer=C, position=Position(n))


def grant(worker: str, token: int, time: float = 0) -> Granted:
    return Granted(worker=worker, shard=S, token=token, time=time)


def kinds(violations: list[Violation]) -> list[str]:
    return [violation.kind for violation in violations]


def test_a_record_that_nobody_settled_is_lost() -> None:
    good = [put(1), put(2), put(3, covered=False), did(1), letter(2)]
    assert nothing_lost(History(good), [C]) == []
    bad = nothing_lost(History(good[:-1]), [C])
    assert kinds(bad) == ["lost"]
    assert "s@2" in bad[0].detail
    assert kinds(nothing_lost(History(good), [C, "sink"])) == ["lost", "lost"]


def test_a_repeated_id_is_settled_with_its_first_only_under_dedup() -> None:
    events = [put(1, id="i"), put(2, id="i"), put(3, key="other", id="i"), did(1), did(3)]
    assert nothing_lost(History(events), [C], dedup=True) == []
    assert kinds(nothing_lost(History(events), [C])) == ["lost"]


def test_what_lies_before_the_start_is_the_first_of_nothing() -> None:
    events = [put(1, id="i", covered=False), put(2, id="i")]
    assert kinds(nothing_lost(History(events), [C], dedup=True)) == ["lost"]


def test_a_checkpoint_over_an_unsettled_record_is_a_skip_even_if_it_is_handled_later() -> None:
    assert nothing_skipped(History([put(1), put(2), did(1), mark(1), did(2), mark(2)]), [C]) == []
    bad = nothing_skipped(History([put(1), put(2), did(1), mark(2), did(2)]), [C])
    assert kinds(bad) == ["skipped"]
    assert "s@2" in bad[0].detail


def test_first_deliveries_follow_the_log_over_shards_and_only_per_key() -> None:
    log = [put(1), put(2), put(1, shard="child"), put(2, key="other", shard="child")]
    good = [*log, did(2, shard="child"), did(1), did(2), did(1, shard="child")]
    assert key_order(History(good), [C]) == []
    bad = key_order(History([*log, did(1), did(1, shard="child"), did(2)]), [C])
    assert kinds(bad) == ["order"]
    swapped = History([*log, sent(2), sent(1)])
    assert kinds(key_order(swapped, [C])) == ["order"], "a sink's content too"


def test_a_redelivery_goes_back_to_the_checkpoint_and_never_behind_it() -> None:
    log = [put(1), put(2), put(3), grant("a", 1)]
    first = [did(1), mark(1), did(2), did(3)]
    assert key_order(History([*log, *first, grant("b", 2), did(2, "b"), did(3, "b")]), [C]) == []
    bad = key_order(History([*log, *first, grant("b", 2), did(1, "b")]), [C])
    assert kinds(bad) == ["went back"]
    own = key_order(History([*log, did(1), did(2), mark(2), did(2)]), [C])
    assert kinds(own) == ["went back"]
    reset = [*log, did(1), mark(1), Reset(), did(1)]
    assert key_order(History(reset), [C]) == []


def test_a_zombie_that_repeats_itself_is_not_a_matter_of_order() -> None:
    log = [put(1), put(2), grant("a", 1), did(1), grant("b", 2), did(1, "b"), did(2, "b")]
    assert key_order(History([*log, mark(2, "b", 2), did(1, "a")]), [C]) == []


def test_a_token_has_one_worker_and_never_writes_after_a_newer_one() -> None:
    assert one_writer(History([grant("a", 1), mark(1), grant("b", 2), mark(2, "b", 2)])) == []
    assert kinds(one_writer(History([mark(1, "a", 1), mark(2, "b", 1)]))) == ["two writers"]
    assert kinds(one_writer(History([mark(1, "b", 2), mark(2, "a", 1)]))) == ["stale token"]
    assert kinds(one_writer(History([grant("b", 2), mark(2, "a", 1)]))) == ["stale token"]


def test_checkpoints_move_back_by_a_reset_only() -> None:
    assert checkpoints_forward(History([mark(1), mark(1), mark(2), Reset(), mark(1)])) == []
    assert checkpoints_forward(History([mark(2), Reset(consumer=C), mark(1)])) == []
    assert kinds(checkpoints_forward(History([mark(2), mark(1)]))) == ["moved back"]
    other = Reset(consumer="another")
    assert kinds(checkpoints_forward(History([mark(2), other, mark(1)]))) == ["moved back"]


def test_a_worker_may_overlap_the_next_owner_for_the_slack_only() -> None:
    taken = [grant("a", 1), did(1, time=5), grant("b", 2, time=10)]
    assert no_late_owner(History([*taken, did(2, "a", time=10.5), did(3, "b", time=99)]), 1) == []
    bad = no_late_owner(History([*taken, did(2, "a", time=12)]), 1)
    assert kinds(bad) == ["late owner"]
    assert "2.000 s" in bad[0].detail
    woken = [*taken, Resumed(worker="a", time=30), did(2, "a", time=30.5)]
    assert no_late_owner(History(woken), 1) == []
    assert kinds(no_late_owner(History([*woken, did(3, "a", time=31.5)]), 1)) == ["late owner"]
    back = [*taken, grant("a", 3, time=20), did(2, "a", time=20)]
    assert no_late_owner(History(back), 1) == []


def test_who_was_never_granted_a_shard_is_a_late_owner_of_it() -> None:
    assert kinds(no_late_owner(History([grant("a", 1), did(1, "x", time=5)]), 1)) == ["late owner"]


def test_exactly_once_wants_each_entry_once_or_in_the_dead_letters() -> None:
    log = [put(1, value=b"1"), put(2), put(3, covered=False)]
    assert exactly_once(History([*log, sent(1, b"1"), letter(2)]), C) == []
    cases = {
        "lost": [sent(1, b"1")],
        "doubled": [sent(1, b"1"), sent(2), sent(2)],
        "altered": [sent(1, b"x"), sent(2)],
        "unwanted": [sent(1, b"1"), sent(2), sent(3)],
        "invented": [sent(1, b"1"), sent(2), sent(9)],
    }
    for kind, events in cases.items():
        assert kinds(exactly_once(History([*log, *events]), C)) == [kind]
    both = [*log, sent(1, b"1"), sent(2), letter(2)]
    assert kinds(exactly_once(History(both), C)) == ["doubled"]


def test_exactly_once_under_dedup_wants_the_first_of_an_id() -> None:
    log = [put(1, id="i"), put(2, id="i"), put(3, id="i", replay=1)]
    assert exactly_once(History([*log, sent(1), sent(3)]), C, dedup=True) == []
    assert kinds(exactly_once(History([*log, sent(2), sent(3)]), C, dedup=True)) == [
        "lost",
        "unwanted",
    ]


def test_an_id_takes_effect_once_within_the_window_and_at_least_once() -> None:
    log = [put(1, id="i", time=0), put(2, id="i", time=50), put(3, id="i", replay=1, time=60)]
    assert dedup_exact(History([*log, did(1), did(1), did(3)]), C) == []
    assert kinds(dedup_exact(History([*log, did(1), did(2), did(3)]), C)) == ["not deduplicated"]
    assert dedup_exact(History([*log, did(1), did(2), did(3)]), C, window=49) == []
    swallowed = dedup_exact(History([*log, did(1)]), C)
    assert kinds(swallowed) == ["swallowed"]
    assert "replay 1" in swallowed[0].detail
    assert dedup_exact(History([*log, letter(1), did(3)]), C) == []


def test_a_history_lists_its_consumers_by_first_mention() -> None:
    history = History()
    for event in (put(1), mark(1), did(1), sent(1)):
        history.record(event)
    assert history.consumers() == [C]


def test_a_stray_is_beside_the_order_of_its_key() -> None:
    """An aggregate on its way during a reshard lands where some of its keys do not hash to."""
    events = [put(1), put(2, shard="t", stray=True), put(3), did(1), did(3), did(2, shard="t")]
    assert key_order(History(events), [C]) == []
    events[1] = put(2, shard="t")
    assert kinds(key_order(History(events), [C])) == ["order"]


def test_an_id_is_known_in_the_lineage_of_its_shard_and_nowhere_else() -> None:
    """A stray copy in a sibling is a record of its own there; in a child it is a repetition."""
    parents = {ShardId("s"): (), ShardId("t"): (), ShardId("u"): (ShardId("s"), ShardId("t"))}
    events = [put(1, id="i"), put(1, shard="t", id="i"), did(1), did(1, shard="t")]
    assert dedup_exact(History(events, parents), C) == []
    assert nothing_lost(History(events, parents), [C], dedup=True) == []
    assert kinds(nothing_lost(History(events[:-1], parents), [C], dedup=True)) == ["lost"]
    merged = [*events, put(1, shard="u", id="i")]
    assert nothing_lost(History(merged, parents), [C], dedup=True) == []
    again = [*merged, did(1, shard="u")]
    assert kinds(dedup_exact(History(again, parents), C)) == ["not deduplicated"] * 2
    assert kinds(dedup_exact(History(events), C)) == ["not deduplicated"], "without parents"


def test_a_producers_order_is_that_of_the_first_acceptance() -> None:
    first, second = Sent(key="k", value=b"1"), Sent(key="k", value=b"2")
    one, two = put(1, value=b"1"), put(2, value=b"2")
    assert written_in_order(History([first, second, one, two, put(3, value=b"1")])) == []
    overtaken = [first, second, put(1, value=b"2"), put(2, value=b"1")]
    assert kinds(written_in_order(History(overtaken))) == ["overtaken"]
    other_key = [Sent(key="j", value=b"1"), second, two, put(3, key="j", value=b"1")]
    assert written_in_order(History(other_key)) == []
