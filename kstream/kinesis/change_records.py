"""A change of a table as a record: its key is the item's, its data the change as AWS writes it.

    {"dynamodb":{"ApproximateCreationDateTime":1700000000,"Keys":{"id":{"S":"a"}},
      "NewImage":{...},"OldImage":{...},"SequenceNumber":"...","SizeBytes":59,...},
     "eventID":"...","eventName":"MODIFY",...}

The same change always gives the same bytes, however the service orders the attributes. Kinesis
Data Streams for DynamoDB has records of this form, too: `codecs.DynamoChanges` reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..record import Record

__all__ = ["record_of"]

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def record_of(change: Mapping[str, Any]) -> Record:
    """Return *change*, a record of GetRecords."""
    inner = change["dynamodb"]
    return Record(
        int(inner["SequenceNumber"]),
        round(float(inner.get("ApproximateCreationDateTime", 0)) * 1000),
        _ENCODER.encode(inner["Keys"]).decode(),
        _ENCODER.encode(change),
    )
