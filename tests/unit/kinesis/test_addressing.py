"""A stream's name in every call, held against the service's model."""

from __future__ import annotations

import botocore.session
import pytest

from kstream.errors import ConfigError
from kstream.kinesis.addressing import Address

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
MODEL = botocore.session.Session().get_service_model("kinesis")


def test_a_target_is_a_name_or_an_arn() -> None:
    assert Address.parse("orders") == Address("orders")
    assert Address.parse(ARN) == Address("orders", ARN, "eu-west-1")
    gov = ARN.replace("arn:aws:", "arn:aws-us-gov:")
    assert Address.parse(gov).arn == gov


@pytest.mark.parametrize(
    "target",
    [
        *("", "a/b", "x" * 129, "arn:aws:kinesis:eu-west-1:123456789012:orders"),
        *("arn:aws:s3:::bucket", f"{ARN}/consumer/fan:1", "arn:aws:kinesis:::stream/orders"),
    ],
)
def test_anything_else_is_a_config_error(target: str) -> None:
    with pytest.raises(ConfigError, match="neither a stream's name nor a stream's ARN"):
        Address.parse(target)


def about(action: str) -> set[str]:
    """Return the fields of *action* that may name a stream."""
    shape = MODEL.operation_model(action).input_shape
    return set(shape.members) & {"StreamName", "StreamARN", "ResourceARN"}


# Reads and subscriptions name the stream by their iterator or consumer.
_BY_TOKEN = {"GetRecords"}


@pytest.mark.parametrize("action", sorted(set(MODEL.operation_names) - _BY_TOKEN))
@pytest.mark.parametrize("target", ["orders", ARN])
def test_every_call_about_the_stream_names_it_as_the_model_says(action: str, target: str) -> None:
    address = Address.parse(target)
    fields = address.fields_of(action, ARN if address.wants_arn(action) else "")
    possible = about(action)
    assert set(fields) <= possible
    assert len(fields) == (1 if possible else 0), f"{action} is new: say how it names the stream"
    for name, value in fields.items():
        assert value == ("orders" if name == "StreamName" else ARN)
    required = set(MODEL.operation_model(action).input_shape.required_members)
    assert required & {"StreamName", "StreamARN", "ResourceARN"} <= set(fields)
