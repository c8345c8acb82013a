"""Calls over real sockets: answers, refusals, silence, cut and kept connections, clocks, proxies."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kstream.aws.errors import AccessRefused
from kstream.aws.http import Answer, JsonService, Limits, decoded
from kstream.aws.shelf import Shelf
from kstream.clock import SystemClock
from kstream.errors import ClosedError, NotFound, Throttled, Unavailable, UsageError

from .serving import (
    DATE,
    NOW,
    Caller,
    Server,
    Step,
    answer,
    hang_up,
    refuse,
    serving,
    silence,
)

QUICK = Limits(connect=1.0, read=0.1, total=1.0)


class At(SystemClock):
    """A wall clock that stands."""

    def __init__(self, now: int) -> None:
        self.instant = now

    def now(self) -> int:
        return self.instant


def run(
    story: Callable[[Server, JsonService], Awaitable[Any]],
    *script: Step,
    limits: Limits | None = None,
    now: int = NOW,
) -> Any:
    """Play *story* with a client of a server that follows *script*."""

    async def play() -> Any:
        async with serving(*script) as server:
            service = JsonService("kinesis", server.session(), clock=At(now), limits=limits)
            try:
                return await story(server, service)
            finally:
                await service.aclose()

    return asyncio.run(play())


def whole(got: Answer) -> tuple[int, bytes, int]:
    return got.status, bytes(got.body), got.at


async def ask(service: JsonService, *, repeatable: bool = False) -> tuple[int, bytes, int]:
    return await service.call("GetRecords", b'{"a":1}', whole, repeatable=repeatable)


# -- a call ----------------------------------------------------------------------------------------


def test_a_call_is_one_signed_post_and_its_answer_has_the_services_clock() -> None:
    async def story(server: Server, service: JsonService) -> None:
        assert await ask(service) == (200, b'{"b": 2}', NOW)
        (request,) = server.requests
        assert request.line == "POST / HTTP/1.1"
        assert request.body == b'{"a":1}'
        assert request.headers["x-amz-target"] == "Kinesis_20131202.GetRecords"
        assert request.headers["content-type"] == "application/x-amz-json-1.1"
        assert request.headers["authorization"].startswith(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"
        )
        assert "/eu-west-1/kinesis/aws4_request" in request.headers["authorization"]
        assert request.headers["x-amz-date"] == "20261122T210000Z"

    run(story, answer({"b": 2}))


def test_no_header_goes_out_that_the_protocol_does_not_need() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await ask(service)
        assert server.requests[0].headers.keys() == {
            *("host", "content-length", "content-type"),
            *("x-amz-target", "x-amz-date", "authorization"),
        }

    run(story, answer())


def test_calls_one_after_another_share_a_connection() -> None:
    async def story(server: Server, service: JsonService) -> None:
        for _ in range(5):
            await ask(service)
        assert server.connections == 1

    run(story, answer({}))


def test_calls_at_once_have_connections_of_their_own_up_to_the_limit() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await asyncio.gather(*[ask(service) for _ in range(10)])
        assert server.connections == 3
        assert len(server.requests) == 10

    run(story, answer({}), limits=Limits(connections=3))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 300_000, 5_000_000])
def test_an_answer_of_any_size_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def story(server: Server, service: JsonService) -> None:
        for _ in range(2):
            assert (await ask(service))[1] == body

    run(story, answer(body))


def test_an_answer_in_chunks_arrives_whole() -> None:
    async def story(server: Server, service: JsonService) -> None:
        assert (await ask(service))[1] == b"one two"

    run(story, lambda caller: caller.chunked(b"one ", b"two"))


@pytest.mark.parametrize("size", [10, 1 << 20, (1 << 20) + 1, 4 << 20])
def test_a_request_of_any_size_arrives_whole(size: int) -> None:
    body = b"x" * size

    async def story(server: Server, service: JsonService) -> None:
        await service.call("PutRecords", body, whole)
        assert server.requests[0].body == body

    run(story, answer())


def test_a_body_is_gone_when_its_reader_is_done() -> None:
    """A buffer is used again for the next answer: nobody may hold on to it unseen."""

    async def story(server: Server, service: JsonService) -> None:
        kept = await service.call("GetRecords", b"{}", lambda got: got.body)
        with pytest.raises(ValueError, match="released"):
            bytes(kept)

    run(story, answer(b"x" * 100_000))


def test_four_buffers_are_kept_and_none_above_16_mib() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await asyncio.gather(*[ask(service) for _ in range(6)])
        shelf: Shelf = service._road.shelf  # type: ignore[union-attr]  # opened by the call
        assert len(shelf._spare) == 4
        await ask(service)
        assert len(shelf._spare) == 4
        shelf._spare[:] = [bytearray((16 << 20) + 1)]
        await ask(service)
        assert shelf._spare == []

    run(story, answer(b"x" * 200_000))


def test_a_date_that_cannot_be_read_is_no_clock() -> None:
    async def story(server: Server, service: JsonService) -> None:
        assert (await ask(service))[2] == 0

    run(story, answer(headers={"Date": "yesterday"}))


def test_an_answer_that_is_no_json_object_is_unavailable() -> None:
    assert decoded("ListStreams", b"") == {}
    for body in (b"<html>", b"[1]", b'{"cut": '):
        with pytest.raises(Unavailable, match="ListStreams: an answer that cannot be read"):
            decoded("ListStreams", body)


# -- refusals --------------------------------------------------------------------------------------


def test_a_refusal_is_our_error_with_action_code_and_message() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(NotFound, match=r"GetRecords: ResourceNotFoundException: no stream"):
            await ask(service)
        with pytest.raises(Throttled, match="Rate exceeded"):
            await ask(service)
        with pytest.raises(UsageError, match="InvalidArgumentException"):
            await ask(service)
        assert len(server.requests) == 3

    run(
        story,
        refuse("ResourceNotFoundException", "no stream"),
        refuse("ProvisionedThroughputExceededException", "Rate exceeded"),
        answer(status=400, headers={"x-amzn-errortype": "InvalidArgumentException:http://x"}),
    )


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_servers_error_is_unavailable_and_the_call_is_not_repeated(status: int) -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match=f"GetRecords: HTTP {status}"):
            await ask(service, repeatable=True)
        assert len(server.requests) == 1

    run(story, answer(b"<html>Bad Gateway</html>", status=status))


def test_a_redirect_is_refused_not_followed() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(UsageError, match="HTTP 307"):
            await ask(service)
        assert len(server.requests) == 1

    run(story, answer(status=307, headers={"Location": "http://127.0.0.1:1/"}))


# -- no answer -------------------------------------------------------------------------------------


def test_no_answer_in_time_is_unavailable() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match=r"no answer from 127\.0\.0\.1:\d+ in time"):
            await ask(service, repeatable=True)
        assert len(server.requests) == 1

    run(story, silence, limits=QUICK)


def test_a_body_that_stops_halfway_is_unavailable() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match="in time"):
            await ask(service)

    run(story, answer(b"half", length=8), limits=QUICK)


def cut(caller: Caller) -> None:
    caller.send(b"half", length=8)
    caller.hang_up()


def test_a_body_that_is_cut_is_unavailable_and_the_call_is_not_repeated() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match="ClientPayloadError"):
            await ask(service, repeatable=True)
        assert len(server.requests) == 1

    run(story, cut)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    async def story(server: Server, service: JsonService) -> None:
        service.session.identity.endpoint_url = "http://127.0.0.1:9"
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9: ClientConnectorError"):
            await ask(service, repeatable=True)

    run(story)


def test_a_kept_connection_that_was_closed_is_replaced_once_for_a_call_that_changes_nothing() -> (
    None
):
    async def story(server: Server, service: JsonService) -> None:
        await ask(service)
        assert (await ask(service, repeatable=True))[0] == 200
        assert [each.connection for each in server.requests] == [1, 1, 2]

    run(story, answer(), hang_up, answer())


def test_a_connection_that_is_closed_twice_is_unavailable() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match="ServerDisconnectedError"):
            await ask(service, repeatable=True)
        assert len(server.requests) == 2

    run(story, hang_up)


def test_a_write_without_an_answer_is_never_sent_again() -> None:
    """It may have been applied: `Unavailable` says so, and who sent it looks first."""

    async def story(server: Server, service: JsonService) -> None:
        await ask(service)
        with pytest.raises(Unavailable, match="ServerDisconnectedError"):
            await ask(service)
        assert len(server.requests) == 2

    run(story, answer(), hang_up, answer())


def test_a_call_that_is_given_up_closes_its_connection_and_the_next_has_its_own() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await ask(service)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(service), 0.05)
        assert (await ask(service))[1] == b"third"
        assert server.connections == 2

    run(story, answer(), silence, answer(b"third"))


def test_a_closed_service_says_so_and_closes_twice() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await ask(service)
        await service.aclose()
        await service.aclose()
        with pytest.raises(ClosedError, match="kinesis is closed"):
            await ask(service)

    run(story, answer())


def test_closing_ends_the_calls_under_way() -> None:
    async def story(server: Server, service: JsonService) -> None:
        await ask(service)

        async def late() -> None:
            await asyncio.sleep(0.05)
            await service.aclose()

        closing = asyncio.gather(ask(service, repeatable=True), late(), return_exceptions=True)
        failed, _ = await closing
        assert isinstance(failed, Unavailable)
        assert len(server.requests) == 2

    run(story, answer(), silence)


# -- clock and credentials -------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-2, 5])
def test_a_wrong_clock_is_corrected_by_the_services_and_said_to_be_retryable(hours: int) -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable, match=rf"our clock is {abs(hours) * 3600} s off"):
            await ask(service)
        await ask(service)
        assert server.requests[1].headers["x-amz-date"] == "20261122T210000Z"

    run(
        story,
        refuse("InvalidSignatureException", "Signature expired"),
        answer(),
        now=NOW + hours * 3_600_000,
    )


def test_a_wrong_key_is_refused_access_whatever_the_clock() -> None:
    async def story(server: Server, service: JsonService) -> None:
        for _ in range(2):
            with pytest.raises(AccessRefused, match="does not match"):
                await ask(service)
        assert service.skew == 0

    run(story, refuse("InvalidSignatureException", "The signature does not match"), now=NOW + 9_000)


def test_a_refusal_after_the_correction_is_a_refusal() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable):
            await ask(service)
        with pytest.raises(AccessRefused):
            await ask(service)

    run(story, refuse("RequestTimeTooSkewed"), now=NOW + 3_600_000)


def test_an_expired_token_is_unavailable_while_it_can_be_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(AccessRefused, match="ExpiredTokenException"):
            await ask(service)
        monkeypatch.setattr(service.session, "expire", lambda: True)
        with pytest.raises(Unavailable, match="are being renewed"):
            await ask(service)

    run(story, refuse("ExpiredTokenException", "The security token is expired"))


# -- proxies ---------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used_and_not_for_what_it_excepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(proxy: Server, service: JsonService) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@127.0.0.1:{proxy.port}")
        service.session.identity.endpoint_url = "http://kinesis.invalid"
        await ask(service)
        request = proxy.requests[0]
        assert request.line == "POST http://kinesis.invalid/ HTTP/1.1"
        assert request.headers["host"] == "kinesis.invalid"
        assert request.headers["proxy-authorization"].startswith("Basic ")

    run(story, answer())

    async def direct(server: Server, service: JsonService) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await ask(service)
        assert server.requests[0].line == "POST / HTTP/1.1"

    run(direct, answer())


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_comes_in_pieces_and_leaving_closes_its_connection() -> None:
    async def story(server: Server, service: JsonService) -> None:
        async with service.stream("SubscribeToShard", b"{}") as pieces:
            async for piece in pieces:
                assert piece == b"one"
                break
        async with asyncio.timeout(2):
            while not server.closed:
                await asyncio.sleep(0.005)

    run(story, lambda caller: caller.chunked(b"one", end=False))


def test_a_stream_that_the_service_ends_ends() -> None:
    async def story(server: Server, service: JsonService) -> None:
        async with service.stream("SubscribeToShard", b"{}") as pieces:
            assert b"".join([piece async for piece in pieces]) == b"onetwo"

    run(story, lambda caller: caller.chunked(b"one", b"two"))


def test_a_stream_that_is_cut_is_unavailable() -> None:
    def cut_off(caller: Caller) -> None:
        caller.chunked(b"one", end=False)
        caller.hang_up()

    async def story(server: Server, service: JsonService) -> None:
        async with service.stream("SubscribeToShard", b"{}") as pieces:
            with pytest.raises(Unavailable, match="SubscribeToShard: no answer"):
                async for _ in pieces:
                    pass

    run(story, cut_off)


def test_a_stream_is_refused_on_entering() -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(NotFound, match="no such consumer"):
            async with service.stream("SubscribeToShard", b"{}"):
                pytest.fail("it was entered")

    run(story, refuse("ResourceNotFoundException", "no such consumer"))


@pytest.mark.parametrize("step", [silence, hang_up])
def test_a_stream_without_an_answer_is_unavailable_on_entering(step: Step) -> None:
    async def story(server: Server, service: JsonService) -> None:
        with pytest.raises(Unavailable):
            async with service.stream("SubscribeToShard", b"{}"):
                pytest.fail("it was entered")
        assert len(server.requests) == 1

    run(story, step, limits=Limits(connect=0.05, read=0.05))


def test_a_callers_own_timeout_within_a_stream_stays_its_own() -> None:
    async def story(server: Server, service: JsonService) -> None:
        async def impatient() -> None:
            async with service.stream("SubscribeToShard", b"{}") as pieces:
                await anext(pieces)
                await asyncio.wait_for(anext(pieces), 0.05)

        with pytest.raises(TimeoutError):
            await impatient()

    run(story, lambda caller: caller.chunked(b"one", end=False))


def test_a_stream_that_is_not_read_makes_the_service_wait() -> None:
    """Backpressure: what the pipeline does not ask for stays in the socket."""

    async def story(server: Server, service: JsonService) -> None:
        async with service.stream("SubscribeToShard", b"{}") as pieces:
            await anext(pieces)
            await asyncio.sleep(0.1)
            # The server still holds most of what it tried to send.
            assert held[0].writer.transport.get_write_buffer_size() > 10 << 20

    held: list[Caller] = []

    def flood(caller: Caller) -> None:
        held.append(caller)
        caller.chunked(b"x" * (32 << 20), end=False)

    run(story, flood)


def test_the_date_of_the_script_is_the_instant_of_the_script() -> None:
    assert NOW == 1_795_381_200_000
    assert DATE.endswith("21:00:00 GMT")


def test_an_answer_is_not_asked_for_in_compressed_form() -> None:
    async def story(server: Server, service: JsonService) -> None:
        body = gzip.compress(b"{}")
        assert (await ask(service))[1] == body

    run(story, answer(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}))
