"""Partition templates: over the record, never over the clock."""

from __future__ import annotations

import pytest

from kstream.errors import ConfigError
from kstream.record import Record
from kstream.shard import ShardId
from kstream.sinks.partitions import Template

ARRIVED = 1_357_034_400_123  # 2013-01-01T10:00:00.123Z
SHARD = ShardId("s/1")


def folder(
    template: str, data: bytes = b"{}", key: str | None = "k", id_: str | None = None
) -> str:
    folders, failed = Template(template).split([Record(1, ARRIVED, key, data, id_)], SHARD)
    return failed[0].reason if failed else next(iter(folders))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("dt={arrived:%Y-%m-%d}", "dt=2013-01-01"),
        ("{arrived:%Y/%m/%d/%H}", "2013/01/01/10"),
        ("dt={arrived:%Y-%m-%d}/carrier={value.carrier}", "dt=2013-01-01/carrier=AA"),
        ("h={arrived:%H:%M}/{shard}", "h=10%3A00/s%2F1"),
        ("{value.a.b}/{value.n}/{value.yes}", "x%20y/7/true"),
        ("k={key}", "k=k"),
        ("{value.hidden}/x", "%5Fhidden/x"),
        ("{value.dots}", "%2E."),
        ("v={value.path}", "v=..%2F..%2Fetc"),
    ],
)
def test_a_template_gives_the_folder(template: str, expected: str) -> None:
    """MUST: partition keys from the record or its arrival time only; safe as a path."""
    data = (
        b'{"carrier":"AA","a":{"b":"x y"},"n":7,"yes":true,"hidden":"_hidden","dots":"..",'
        b'"path":"../../etc"}'
    )
    assert folder(template, data) == expected


@pytest.mark.parametrize(
    ("template", "data"),
    [
        ("{value.a}", b"not json"),
        ("{value.a}", b"{}"),
        ("{value.a}", b"[1]"),
        ("{value.a}", b'{"a":null}'),
        ("{value.a}", b'{"a":1.5}'),
        ("{value.a}", b'{"a":""}'),
        ("{value.a}", b'{"a":{}}'),
        ("{value.a.b}", b'{"a":"x"}'),
        ("{value.a}", b'{"a":"' + b"x" * 300 + b'"}'),
        ("{id}", b"{}"),
    ],
)
def test_a_record_without_a_folder_fails_by_itself(template: str, data: bytes) -> None:
    assert "no partition" in folder(template, data)


def test_a_record_without_a_key_has_no_folder_by_key() -> None:
    assert "its key is" in folder("{key}", key=None)


def test_records_keep_their_order_within_a_folder_and_folders_are_sorted() -> None:
    """The same span always gives the same parts."""
    made = [Record(n, ARRIVED, "ba"[n % 2], b"{}") for n in range(5)]
    folders, failed = Template("k={key}").split(made, SHARD)
    assert [*folders.items()] == [("k=a", [1, 3]), ("k=b", [0, 2, 4])]
    assert failed == ()


@pytest.mark.parametrize(
    "template",
    [
        "",
        "plain",
        "{now:%Y}",
        "{arrived}",
        "{arrived:%A}",
        "{arrived:%c}",
        "{arrived:/%Y}",
        "{key:>10}",
        "{key!r}",
        "{key.upper}",
        "{value}",
        "{value.}",
        "{value.a..b}",
        "{sequence}",
        "{0}",
        "{}",
        "{key",
        "/{key}",
        "{key}/",
        "a//{key}",
        "../{key}",
        "_x/{key}",
        ".x/{key}",
        "a b/{key}",
        "a%2F/{key}",
    ],
)
def test_anything_else_is_refused(template: str) -> None:
    """MUST: nothing of the wall clock, nothing that two workers could see differently."""
    with pytest.raises(ConfigError):
        Template(template)
