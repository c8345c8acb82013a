"""What each server does otherwise than the service it stands for, as far as a test meets it.

A conformance test that fails on a server is our fault, or stands here with its reason. Every other
difference that is known is not met by any of our tests.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

__all__ = ["FAULTS", "Fault"]


class Fault(Struct, frozen=True, kw_only=True):
    """One difference: *what* it is, and the conformance *tests* that fail for it."""

    what: str
    tests: tuple[str, ...]
    hangs: bool = False
    """Whether the tests would wait for ever, and are not run."""


FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "kinesis-mock": (),
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
        ),
    ),
    "dynamodb-local": (),
    "seaweedfs": (),
}
