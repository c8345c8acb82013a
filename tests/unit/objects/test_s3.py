"""The S3 store above HTTP: conditional creates and what becomes of them, probing, damage."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader

from kstream.errors import (
    ClosedError,
    ConfigError,
    CorruptStore,
    KstreamError,
    NotFound,
    RetryableError,
    StorageFull,
    Throttled,
    Unavailable,
    UnknownFormat,
    UsageError,
)
from kstream.objects.s3 import S3_KEYS, S3Options, open_s3
from kstream.objects.s3.failures import s3_errors
from kstream.objects.s3.options import parse_options, parse_place
from kstream.objects.s3.store import S3Objects
from kstream.ports.sink import Counts, Guarantee
from kstream.sinks.chain import ChainSink
from kstream.testing.conformance.sinks import sample_batch, sample_fence

from .fake_s3 import FakeS3, Fault, fake_s3

PROBE = "p/.kstream-probe"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with fake_s3() as store:
        yield store


def over(fake: FakeS3, check: Callable[[S3Objects], Awaitable[None]], **said: object) -> None:
    """Run *check* on a store over *fake*."""

    async def run() -> None:
        options = S3Options(endpoint=fake.endpoint, style="path", **said)  # type: ignore[arg-type]  # any of its fields
        store = S3Objects("bucket", "p/", options, chance=random.Random(7))
        try:
            await check(store)
        finally:
            await store.aclose()

    asyncio.run(run())


# -- creating --------------------------------------------------------------------------------------


def test_a_conflict_is_sent_again_until_it_is_decided(fake: FakeS3) -> None:
    """Issue 4, 10: 409 = again. Nothing was created by a request that was answered so."""

    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [("put", "409"), ("put", "409")]
        assert await store.put_if_absent("a", b"one", {})
        assert await store.get("a") == b"one"
        fake.faults += [("put", "409")]
        assert not await store.put_if_absent("a", b"two", {})

    over(fake, check)


def test_conflicts_without_end_are_left_to_the_caller_to_try_later(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [("put", "409")] * 6
        with pytest.raises(RetryableError, match="409 6 times"):
            await store.put_if_absent("a", b"one", {})
        assert fake.asked.count("put") == 2 + 6

    over(fake, check)


def test_a_lost_answer_after_a_landed_write_is_recognised_as_ours(fake: FakeS3) -> None:
    """Issue 4, 10: a create whose answer was lost, sent again, finds its own object."""

    async def check(store: S3Objects) -> None:
        sink, fence = ChainSink(store), sample_fence()
        prepared = await sink.prepare(sample_batch(-1, 5), fence, Counts())
        assert prepared is not None
        await store.open()
        fake.faults += [("put", "lost")]
        with pytest.raises(Unavailable):
            await sink.commit(prepared)
        again = await sink.commit(prepared)
        assert (again.through, again.adopted) == (prepared.last, False)

    over(fake, check)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("500", Unavailable),
        ("503", Throttled),
        ("cut", Unavailable),
        ("507", StorageFull),
        ("403", ConfigError),
        ("404", ConfigError),
    ],
)
def test_a_create_is_sent_once_and_its_failure_says_whose_move_it_is(
    fake: FakeS3, fault: Fault, error: type[KstreamError]
) -> None:
    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [("put", fault)]
        with pytest.raises(error):
            await store.put_if_absent("a", b"one", {})
        assert fake.asked.count("put") == 2 + 1
        assert await store.put_if_absent("a", b"one", {})

    over(fake, check)


def test_what_asks_for_a_fact_is_asked_again(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        assert await store.put_if_absent("a", b"one", {"k": "v"})
        fake.faults += [("head", "500"), ("head", "cut"), ("get", "503"), ("list", "500")]
        found = await store.head("a")
        assert found is not None
        assert (found.size, found.metadata) == (3, {"k": "v"})
        assert await store.get("a") == b"one"
        assert [name async for name in store.list("")] == ["a"]
        fake.faults += [("head", "500")] * 4
        with pytest.raises(Unavailable):
            await store.head("a")

    over(fake, check)


def test_a_refusal_names_the_permission_that_is_missing(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        fake.faults += [("put", "403"), ("get", "403"), ("list", "403")]
        with pytest.raises(ConfigError, match="s3:PutObject"):
            await store.open()
        with pytest.raises(ConfigError, match="s3:GetObject"):
            await store.get("a")
        with pytest.raises(ConfigError, match="s3:ListBucket"):
            await store.reach()

    over(fake, check)


# -- the probe -------------------------------------------------------------------------------------


def test_a_store_that_overwrites_is_refused_by_name(fake: FakeS3) -> None:
    """Issue 4, 10: the store is probed at start and one without conditional PUT is refused."""
    fake.ignores_condition = True

    async def check(store: S3Objects) -> None:
        with pytest.raises(ConfigError, match="s3://bucket/p/: this store does not honour"):
            await store.put_if_absent("a", b"one", {})
        assert list(fake.objects) == [PROBE]

    over(fake, check)


def test_a_store_that_does_not_know_the_condition_is_refused(fake: FakeS3) -> None:
    fake.faults += [("put", "501")]

    async def check(store: S3Objects) -> None:
        with pytest.raises(ConfigError, match="conditional=off"):
            await store.open()

    over(fake, check)


def test_the_probe_is_one_object_and_later_costs_one_refused_request(fake: FakeS3) -> None:
    """It has one name for ever, is never listed, and no chance or time is in it."""

    async def check(store: S3Objects) -> None:
        await store.open()
        await store.open()
        assert fake.asked == ["put", "put"]
        assert list(fake.objects) == [PROBE]
        assert [name async for name in store.list("")] == []

    async def check_later(store: S3Objects) -> None:
        fake.asked.clear()
        await store.open()
        assert fake.asked == ["put"]

    over(fake, check)
    over(fake, check_later)


@pytest.mark.parametrize("fault", ["lost", "cut", "500", "409"])
def test_a_probe_in_trouble_is_tried_again(fake: FakeS3, fault: Fault) -> None:
    fake.faults += [("put", fault), ("put", fault)]

    async def check(store: S3Objects) -> None:
        await store.open()
        assert await store.put_if_absent("a", b"one", {})

    over(fake, check)


def test_without_the_condition_it_promises_less_and_says_so(
    fake: FakeS3, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 4, 10: run loudly as at-least-once if the user says so."""
    fake.ignores_condition = True

    async def check(store: S3Objects) -> None:
        assert store.guarantee is Guarantee.AT_LEAST_ONCE
        assert ChainSink(store, guarantee=store.guarantee).guarantee is Guarantee.AT_LEAST_ONCE
        assert await store.put_if_absent("a", b"one", {})
        assert not await store.put_if_absent("a", b"two", {})
        assert await store.get("a") == b"one"

    with caplog.at_level(logging.WARNING, "kstream.s3"):
        over(fake, check, conditional="off")
    assert "at-least-once" in caplog.text
    assert all("if-none-match" not in headers for headers in fake.headers)


def test_who_only_reads_puts_nothing(fake: FakeS3) -> None:
    async def check() -> None:
        query = {"endpoint": fake.endpoint, "style": "path", "format": "jsonl"}
        store = await open_s3("bucket/p", query, writes=False)
        assert fake.asked == ["list"]
        await store.aclose()
        store = await open_s3("bucket/p", query)
        assert fake.asked == ["list", "list", "put", "put"]
        await store.aclose()
        fake.faults += [("list", "404")]
        with pytest.raises(ConfigError, match="no such bucket"):
            await open_s3("bucket/p", query)

    asyncio.run(check())


# -- large objects ---------------------------------------------------------------------------------

BODY = random.Random(3).randbytes(300_000)


def test_a_large_object_is_uploaded_in_parts_and_appears_whole(fake: FakeS3) -> None:
    """Issue 4, 10: multipart for large objects by the same rule."""

    async def check(store: S3Objects) -> None:
        assert await store.put_if_absent("big", BODY, {"k": "v"})
        found = await store.head("big")
        assert found is not None
        assert (found.size, found.metadata) == (len(BODY), {"k": "v"})
        assert await store.get("big") == BODY
        assert fake.asked.count("part") == 5
        assert not await store.put_if_absent("big", BODY[::-1], {})
        assert fake.asked.count("create") == 1

    over(fake, check, multipart_from=100_000, part_size=70_000)


def test_an_upload_that_comes_second_is_aborted(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        await store.open()

        async def put(n: int) -> bool:
            return await store.put_if_absent("big", BODY[n:], {"n": str(n)})

        won = await asyncio.gather(*(put(n) for n in range(4)))
        assert sum(won) == 1
        assert await store.get("big") == BODY[won.index(True) :]

    over(fake, check, multipart_from=100_000, part_size=200_000)
    assert fake.uploads == {}


@pytest.mark.parametrize(
    ("kind", "fault"), [("create", "500"), ("part", "500"), ("part", "cut"), ("complete", "503")]
)
def test_an_upload_that_fails_leaves_nothing_behind(fake: FakeS3, kind: str, fault: Fault) -> None:
    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [(kind, fault)]
        with pytest.raises(RetryableError):
            await store.put_if_absent("big", BODY, {})
        assert await store.head("big") is None
        assert await store.put_if_absent("big", BODY, {})

    over(fake, check, multipart_from=100_000, part_size=70_000)
    assert fake.uploads == {}


def test_a_completed_upload_with_a_lost_answer_stands(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [("complete", "lost")]
        with pytest.raises(Unavailable):
            await store.put_if_absent("big", BODY, {"k": "v"})
        assert not await store.put_if_absent("big", BODY, {"k": "v"})
        found = await store.head("big")
        assert found is not None
        assert found.metadata == {"k": "v"}

    over(fake, check, multipart_from=100_000, part_size=70_000)


def test_an_upload_in_conflict_is_begun_again(fake: FakeS3) -> None:
    """S3's rule: after 409 the parts are sent anew."""

    async def check(store: S3Objects) -> None:
        await store.open()
        fake.faults += [("complete", "409")]
        assert await store.put_if_absent("big", BODY, {})
        assert fake.asked.count("create") == 2

    over(fake, check, multipart_from=100_000, part_size=200_000)
    assert fake.uploads == {}


# -- damage ----------------------------------------------------------------------------------------


def test_bytes_that_are_not_those_written_are_noticed(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        assert await store.put_if_absent("a", b"body", {})
        _, kept = fake.objects["p/a"]
        for stands in (b"bodY", b"longer"):
            fake.objects["p/a"] = (stands, kept)
            with pytest.raises(CorruptStore):
                await store.get("a")
        with pytest.raises(CorruptStore, match="6 bytes; 4"):
            await store.head("a")
        fake.objects["p/a"] = (b"bodY", kept | {"x-amz-checksum-sha256": "b3RoZXI="})
        with pytest.raises(CorruptStore, match="ChecksumSHA256 differs"):
            await store.head("a")

    over(fake, check)


def test_what_something_else_put_there_is_not_taken_for_ours(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        fake.objects["p/a"] = (b"body", {})
        for read in (store.head, store.get):
            with pytest.raises(CorruptStore, match="something else"):
                await read("a")
        fake.objects["p/a"] = (b"body", {"x-amz-meta-kstream-seal": "1 four x"})
        with pytest.raises(CorruptStore, match="damaged"):
            await store.head("a")
        fake.objects["p/a"] = (b"body", {"x-amz-meta-kstream-seal": "2 whatever"})
        with pytest.raises(UnknownFormat):
            await store.head("a")

    over(fake, check)


def test_a_list_cut_into_pages_is_whole_and_holds_no_strangers(fake: FakeS3) -> None:
    fake.page = 3

    async def check(store: S3Objects) -> None:
        names = sorted(f"d/ü {n}&+%20" for n in range(8))
        for name in names:
            assert await store.put_if_absent(name, b"", {})
        fake.objects["p/d/"] = (b"", {})  # a folder, as a console makes it
        fake.objects["p/.hidden/x"] = (b"", {})
        fake.objects["other"] = (b"", {})
        assert [name async for name in store.list("")] == names
        assert [name async for name in store.list("d/ü 3")] == ["d/ü 3&+%20"]

    over(fake, check)


# -- metadata, names, options ----------------------------------------------------------------------


def test_metadata_that_http_would_change_comes_back_as_it_was(fake: FakeS3) -> None:
    metadata = {"a": " b  c ", "u": "grüße\n\t日本", "p": "100%25", "long": "x" * 1500}

    async def check(store: S3Objects) -> None:
        assert await store.put_if_absent("a", b"", metadata)
        found = await store.head("a")
        assert found is not None
        assert found.metadata == metadata

    over(fake, check)


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("", {}),
        ("a//b", {}),
        ("a/.b", {}),
        ("ü" * 600, {}),
        ("a", {"Key": "x"}),
        ("a", {"kstream-seal": "x"}),
        ("a", {"k": "x" * 2048}),
    ],
)
def test_what_s3_cannot_keep_is_refused_before_it_is_sent(
    fake: FakeS3, name: str, metadata: dict[str, str]
) -> None:
    async def check(store: S3Objects) -> None:
        with pytest.raises(UsageError):
            await store.put_if_absent(name, b"", metadata)
        assert fake.asked == []

    over(fake, check)


def test_every_request_says_how_objects_are_encrypted_and_who_pays(
    fake: FakeS3, tmp_path: Path
) -> None:
    async def check(store: S3Objects) -> None:
        await store.put_if_absent("a", b"one", {})

    over(fake, check, sse="s3")
    assert fake.headers[-1]["x-amz-server-side-encryption"] == "AES256"
    over(fake, check, sse="kms:alias/k", request_payer="requester")
    assert fake.headers[-1]["x-amz-server-side-encryption"] == "aws:kms"
    assert fake.headers[-1]["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/k"
    assert fake.headers[-1]["x-amz-request-payer"] == "requester"
    over(fake, check, checksum="md5")
    assert "content-md5" in fake.headers[-1]
    assert "x-amz-checksum-sha256" not in fake.headers[-1]
    file = tmp_path / "key"
    file.write_bytes(b"k" * 32)
    over(fake, check, sse_c_key_file=str(file))
    assert fake.headers[-1]["x-amz-server-side-encryption-customer-algorithm"] == "AES256"


def test_a_customers_key_is_32_bytes_however_written(tmp_path: Path) -> None:
    from kstream.objects.s3.options import encryption

    file = tmp_path / "key"
    key = bytes(range(32))
    for written in (
        key,
        key.hex().encode() + b"\n",
        b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ):
        file.write_bytes(written)
        creating, later = encryption(S3Options(sse_c_key_file=str(file)))
        assert creating == later == {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
    for wrong in (b"short", b"zz" * 32):
        file.write_bytes(wrong)
        with pytest.raises(ConfigError, match="no key of 32 bytes"):
            encryption(S3Options(sse_c_key_file=str(file)))
    with pytest.raises(ConfigError, match="No such file"):
        encryption(S3Options(sse_c_key_file=str(tmp_path / "none")))


def test_options_are_checked_before_anything_is_opened() -> None:
    said = {
        "region": "eu-west-1",
        "style": "virtual",
        "sse": "kms:arn:aws:kms:k",
        "format": "jsonl",
    }
    options = parse_options(said)
    assert (options.region, options.style, options.sse) == ("eu-west-1", "virtual", said["sse"])
    for wrong in (
        {"style": "no"},
        {"sse": "aes"},
        {"sse": "s3:key"},
        {"conditional": "maybe"},
        {"sse": "s3", "sse_c_key_file": "k"},
    ):
        with pytest.raises(ConfigError):
            parse_options(wrong)
    assert set(S3_KEYS) <= set(S3Options.__struct_fields__)


def test_a_place_is_a_bucket_and_a_prefix_of_whole_components() -> None:
    assert parse_place("bucket") == ("bucket", "")
    assert parse_place("bucket/a/b") == ("bucket", "a/b/")
    assert parse_place("bucket//a/") == ("bucket", "a/")
    point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    assert parse_place(f"{point}/a") == (point, "a/")
    for wrong in ("B", "Bucket/a", "", "folder--x-s3/a"):
        with pytest.raises(ConfigError):
            parse_place(wrong)


def test_a_closed_store_says_so(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        await store.aclose()
        with pytest.raises(ClosedError):
            await store.head("a")
        await store.aclose()

    over(fake, check)


# -- errors ----------------------------------------------------------------------------------------


def test_every_exception_of_the_library_is_mapped() -> None:
    """ARCHITECTURE 3: vendor errors are mapped in one place, and a test says it is complete."""
    kinds: list[Any] = [
        kind
        for kind in vars(botocore.exceptions).values()
        if isinstance(kind, type) and issubclass(kind, BotoCoreError)
    ]
    assert len(kinds) > 50
    for kind in kinds:
        with pytest.raises(KstreamError), s3_errors("get_object", "s3://b/k"):
            raise kind.__new__(kind)


def test_every_error_of_the_service_is_mapped() -> None:
    shapes = Loader().load_service_model("s3", "service-2")["shapes"]
    codes = [name for name, shape in shapes.items() if shape.get("exception")]
    assert "NoSuchKey" in codes
    for code in [*codes, "InternalError", "Whatever"]:
        answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        with pytest.raises(KstreamError), s3_errors("get_object", "s3://b/k"):
            raise ClientError(answer, "GetObject")


def test_an_absent_object_is_not_found(fake: FakeS3) -> None:
    async def check(store: S3Objects) -> None:
        with pytest.raises(NotFound):
            await store.get("a")

    over(fake, check)
