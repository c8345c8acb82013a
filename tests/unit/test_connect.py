"""URL to adapter: what opens, what is refused, and where a group's rows are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kstream.connect import (
    open_catalog,
    open_control,
    open_dead_letters,
    open_groups,
    open_leases,
    open_objects,
    open_seen,
    open_sink,
    open_stream,
    stream_location,
)
from kstream.connect.amazon import default_table, kcl_companion
from kstream.connect.streams import name_of
from kstream.errors import ConfigError, NotFound
from kstream.lease import Group, row_key
from kstream.ports.leases import Change
from kstream.position import GroupStart
from kstream.record import Entry, Receipt
from kstream.urls import Location, parse_url


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("url", ["local:a.db#orders?shards=3", "memory:connect-orders?shards=3"])
def test_a_stream_with_shards_in_its_url_is_made_once(url: str) -> None:
    async def scenario() -> None:
        for _ in range(2):
            stream = await open_control(url)
            try:
                assert len(await stream.shards()) == 3
                [outcome] = await stream.write([Entry(b"x", key="a")])
                assert isinstance(outcome, Receipt)
            finally:
                await stream.aclose()

    asyncio.run(scenario())


def test_a_local_stream_that_is_absent_is_not_made_by_looking() -> None:
    async def scenario() -> None:
        with pytest.raises(NotFound):
            await open_stream("local:a.db#orders")
        leases = await open_leases("local:a.db#orders", "g")
        with pytest.raises(NotFound):
            await leases.rows()
        await leases.aclose()
        assert not Path("a.db").exists()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://host:9092/orders", "not in this version"),
        ("kinesis:orders", "is written kinesis://NAME"),
        ("kinesis://", "is written kinesis://NAME"),
        ("kinesis://a/b", "a Kinesis stream's name"),
        ("kinesis://orders?fetch=pull", "Invalid enum value 'pull'"),
        ("kinesis://orders?shards=4", "unknown query key 'shards'"),
        ("kinesis://orders?idle=never", "duration"),
        ("arn:aws:kinesis:eu-west-1:1:stream/orders", "no stream's ARN"),
        ("arn:aws:kinesis:eu-west-1:123456789012:orders", "no stream's ARN"),
        ("file:orders", "no scheme of a stream"),
        ("local:a.db", "lacks the stream's name"),
        ("memory:a#b", "is written memory:NAME"),
        ("local:a.db#o?shrads=1", "unknown query key"),
    ],
)
def test_a_stream_of_another_kind_is_refused_before_anything_opens(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stream_location(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("local:a.db#o?shards=0", "shards=0"),
        ("local:a.db#o?shards=many", "shards=many"),
        ("local:a.db#o?shards=1&durability=some", "durability=some"),
        ("local:a.db#o?shards=1&retention=soon", "retention|duration"),
    ],
)
def test_a_wrong_value_in_the_url_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        asyncio.run(open_stream(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket/prefix?formt=raw", "unknown query key"),
        ("s3:bucket/prefix", "is written s3://"),
        ("local:a.db#o", "no scheme of a sink"),
        ("file:out?compresion=gzip", "unknown query key"),
        ("file:out?compression=rar", "rar"),
        ("file:out?format=xml", "xml"),
        ("file:out?partition={now}", "now"),
    ],
)
def test_a_sink_that_cannot_be_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        asyncio.run(open_sink(url))


@pytest.mark.parametrize("stream", ["local:a.db#orders?shards=1", "memory:connect-groups"])
def test_groups_of_two_streams_in_one_place_do_not_meet(stream: str) -> None:
    """The same group name on two streams of one file is two groups."""
    other = stream.replace("orders", "bills").replace("groups", "others")

    async def scenario() -> None:
        for url in (stream, other):
            await (await open_stream(url)).aclose()
        group = Group(name="g", epoch="e", start=GroupStart(), revision=1)
        mine, theirs = await open_leases(stream, "g"), await open_leases(other, "g")
        every = await open_groups(stream)
        others = await open_groups(other)
        try:
            await mine.swap([Change(row_key(group), None, group)])
            assert await mine.get("group") == group
            assert await theirs.get("group") is None
            assert (await every.groups(), await others.groups()) == (["g"], [])
            await every.drop("g")
            assert await every.groups() == []
        finally:
            for one in (mine, theirs, every, others):
                await one.aclose()

    asyncio.run(scenario())


def test_a_store_of_its_own_is_made_and_shared() -> None:
    async def scenario() -> None:
        group = Group(name="g", epoch="e", start=GroupStart(), revision=1)
        for _ in range(2):
            leases = await open_leases("memory:connect-own", "g", "local:leases.db")
            await leases.swap([Change(row_key(group), None, group)])
            assert await leases.get("group") == group
            await leases.aclose()
        seen = await open_seen("memory:connect-own", "g", "local:leases.db")
        try:
            assert await seen.load(await seen.append("x", b"run")) == b"run"
        finally:
            await seen.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "store",
    [
        "local:a.db#name",
        "file:dir",
        "local:a.db?x=1",
        "s3://b",
        "dynamodb://a",
        "dynamodb://abc?x=1",
    ],
)
def test_a_place_that_is_no_lease_store_is_refused(store: str) -> None:
    with pytest.raises(ConfigError):
        asyncio.run(open_leases("memory:connect-own", "g", store))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a b", "x" * 129, "ä"])
def test_a_group_name_that_not_every_store_could_keep_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not a group's name"):
        asyncio.run(open_leases("memory:connect-own", name))


def test_objects_in_memory_are_shared_by_name_and_those_in_a_directory_are_files() -> None:
    async def scenario() -> None:
        one, same = await open_objects("memory:bucket"), await open_objects("memory:bucket")
        assert await one.put_if_absent("a", b"x", {})
        assert await same.get("a") == b"x"
        directory = await open_objects("file:out")
        assert await directory.put_if_absent("a.txt", b"x", {})
        assert Path("out/a.txt").read_bytes() == b"x"
        letters = await open_dead_letters("file:dead")
        assert [letter async for letter in letters.letters()] == []

    asyncio.run(scenario())


def test_streams_in_memory_have_no_catalog() -> None:
    with pytest.raises(ConfigError, match="catalog"):
        open_catalog("memory:orders")


@pytest.mark.parametrize(
    "url",
    [
        "kinesis://orders",
        "kinesis://orders?region=eu-west-1&endpoint=http://127.0.0.1:4568&fetch=auto&consumer=mine",
        "kinesis://orders?deregister=true&idle=250ms&patience=10s&order=fast&readers=kcl",
        "arn:aws:kinesis:eu-west-1:123456789012:stream/orders?aggregate=off&out_of_range=kcl",
        "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a.b-c_d",
    ],
)
def test_a_kinesis_stream_is_named_by_name_or_arn(url: str) -> None:
    assert stream_location(url).scheme in {"kinesis", "arn"}


def test_what_stands_beside_a_kinesis_stream_is_a_table_of_its_group_in_its_region() -> None:
    """ARCHITECTURE 11: Kinesis: DynamoDB table ``kstream-GROUP``."""
    arn = stream_location("arn:aws:kinesis:eu-west-1:123456789012:stream/orders")
    assert default_table(arn, "billing") == Location(
        "dynamodb", "kstream-billing", "", {"region": "eu-west-1"}
    )
    assert name_of(arn) == name_of(stream_location("kinesis://orders")) == "orders"
    assert default_table(stream_location("kinesis://orders"), "g").query == {}


def test_the_changes_of_a_table_are_a_stream_named_as_the_table() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/shop/stream/2026-11-22T00:00:00.000"
    for url in (arn, "dynamodb-stream://shop?region=eu-west-1&idle=2s&patience=9s"):
        location = stream_location(url)
        assert name_of(location) == "shop"
        assert default_table(location, "g").query == {"region": "eu-west-1"}
    for url, says in (
        ("dynamodb-stream://shop?fetch=push", "unknown query key 'fetch'"),
        ("dynamodb-stream://a", "a table's name"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/shop", "no ARN of a table's stream"),
    ):
        with pytest.raises(ConfigError, match=says):
            stream_location(url)
    with pytest.raises(ConfigError, match="splits a table's stream by itself"):
        asyncio.run(open_control("dynamodb-stream://shop"))


def test_beside_a_kcl_table_stands_one_of_our_own() -> None:
    """ARCHITECTURE 7: never put a foreign item into a shared KCL table."""
    shared = parse_url("kcl2://billing?region=eu-west-1&failover=10s&initial=LATEST")
    assert kcl_companion(shared) == Location(
        "dynamodb", "billing-kstream", "", {"region": "eu-west-1"}
    )
    with pytest.raises(ConfigError, match="unknown query key 'failovr'"):
        kcl_companion(parse_url("kcl2://billing?failovr=1s"))
