"""What a user record carries beside key and data: its ID, headers and replay number, as KPL tags.

A Kinesis record has no place for them; an aggregate in the KPL's format has tags, which every
other reader ignores. The ID is the tag `core.aggregation.ID_TAG`; this is the rest.

A user record whose key is empty was written without one: the format requires a key, and neither
the service nor the KPL takes an empty one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final

__all__ = ["HEADER_TAG", "KEYLESS", "REPLAY_TAG", "from_tags", "to_tags"]

HEADER_TAG: Final = "kstream-h:"
"""A header ``NAME`` is the tag ``kstream-h:NAME``, its value in Base64."""
REPLAY_TAG: Final = "kstream-replay"
"""`Record.replay` in decimal; absent where it is 0."""
KEYLESS: Final = ""
"""The key of a user record that was written without a key."""


def to_tags(headers: Mapping[str, bytes] | None, replay: int) -> dict[str, str] | None:
    """Return the tags that carry *headers* and *replay*, ``None`` if there is nothing to carry."""
    if not headers and not replay:
        return None
    tags = {HEADER_TAG + name: b64encode(value).decode() for name, value in (headers or {}).items()}
    if replay:
        tags[REPLAY_TAG] = str(replay)
    return tags


def from_tags(tags: Mapping[str, str]) -> tuple[dict[str, bytes] | None, int]:
    """Return the headers and the replay number in *tags*.

    Tags of others, and values that nobody of ours wrote, are passed over. Never raises.
    """
    headers: dict[str, bytes] = {}
    replay = 0
    for name, value in tags.items():
        if name.startswith(HEADER_TAG):
            try:
                headers[name[len(HEADER_TAG) :]] = b64decode(value, validate=True)
            except ValueError:
                continue
        elif name == REPLAY_TAG and value.isascii() and value.isdigit() and len(value) < 19:
            replay = int(value)
    return headers or None, replay
