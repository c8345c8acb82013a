"""What each server does otherwise than the service it stands for, as far as it matters to us.

A conformance test that fails on a server is our fault, or stands here with its reason. What no
server does is exercised elsewhere: by the proxy before them, or on the fakes of `kstream.testing`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

__all__ = ["FAULTS", "Fault"]


class Fault(Struct, frozen=True, kw_only=True):
    """One difference: *what* it is, and the conformance *tests* that fail for it."""

    what: str
    tests: tuple[str, ...] = ()
    hangs: bool = False
    """Whether the tests would wait for long, and are not run."""
    instead: str = ""
    """Where what it lacks is tested, or how tests get along."""


FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "kinesis-mock": (
        Fault(
            what="throttles nobody, refuses no part of a PutRecords, sets no limit to its bytes",
            instead="the proxy; the fake",
        ),
        Fault(
            what="divides the ring of hash keys one below where Kinesis does",
            instead="test_a_service_that_cuts_its_ranges_otherwise_is_written_all_the_same",
        ),
        Fault(
            what="takes the lower neighbour first in MergeShards",
            instead="we name it first, which Kinesis takes as well",
        ),
        Fault(what="answers 500 to a token that is none", instead="the fake"),
        Fault(what="never tells a push subscription of the shard's end", instead="the fake"),
        Fault(what="takes some 700 Kinesis records a second", instead="aggregates"),
    ),
    "ministack": (
        Fault(
            what="a split or merge takes the parents away at once, with the records in them",
            tests=(
                "test_a_closed_shard_ends_with_its_children_after_its_last_record_and_again",
                "test_a_reader_that_waits_hears_of_the_end",
                "test_a_split_closes_the_shard_and_divides_its_keys",
                "test_a_split_refuses_borders_closed_shards_and_unknown_ones",
                "test_keys_keep_their_order_through_generations_read_parents_first",
                "test_only_neighbours_merge_in_either_order_of_naming",
                "test_positions_of_an_open_shard_stay_readable_while_others_change",
                "test_resharding_leaves_even_shards_and_a_complete_listing",
                "test_the_tip_lacks_only_shards_that_were_opened_after_it",
            ),
            hangs=True,
            instead="kinesis-mock; the fake",
        ),
        Fault(
            what="writes sequence numbers with leading zeros and compares them as text",
            instead="its tests ask with leading zeros",
        ),
        Fault(
            what="gives instants of a stream in whole seconds",
            instead="its tests wait for the next one",
        ),
        Fault(what="throttles nobody", instead="the proxy; the fake"),
    ),
    "dynamodb-local": (
        Fault(
            what="throttles nobody, leaves nothing unprocessed, knows no transaction in conflict",
            instead="the proxy; the fake",
        ),
        Fault(
            what="may forget an acknowledged transaction when it is killed itself",
            instead="tests kill its clients",
        ),
    ),
    "seaweedfs": (
        Fault(
            what="throttles nobody and knows no 409 of conditional requests", instead="the proxy"
        ),
        Fault(
            what="takes no more than 255 bytes between two slashes of a key",
            instead="no name of ours is that long",
        ),
        Fault(
            what="lists folder by folder, not in the order of the names", instead="S3Objects sorts"
        ),
        Fault(what="has no KMS", instead="the fake of tests/unit/objects"),
    ),
}
