"""The second door around Hypercorn's protocols: one HTTP/1.1 exchange, faults, ends."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import pytest
import trio
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from quart import Response
from trio.testing import MockClock

from tests.support.faults import fault, through
from tests.support.h2client import open_h2
from tests.support.second_door import answer, echo, link_pair, read_all, second_door
from trio_gateway.proxy.exchange import Exchange

pytestmark = through("h2")

PATH = b"/orchestrator/users"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OPENED = PREFACE + bytes.fromhex("000000040000000000")
INDEX = b"GET / HTTP/1.1\r\nHost: a\r\n"


def head_of(reply: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, field lines in lower case, body."""
    head, _, body = reply.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, [field.lower() for field in fields], body


# ---- HTTP/1.1


@pytest.mark.parametrize(
    "request_head",
    [INDEX + b"\r\n", INDEX + b"Connection: close\r\n\r\n", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"],
)
async def test_a_page_is_followed_by_the_end(request_head: bytes, autojump_clock: MockClock) -> None:
    """The connection ends behind one reply at once, whatever the client would like."""
    async with second_door() as door:
        began = trio.current_time()
        line, fields, body = head_of(await door.h1(request_head))
        assert trio.current_time() == began
    assert line.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in fields
    assert body.startswith(b'{"service"')


async def test_the_server_lets_go_as_soon_as_the_client_does(autojump_clock: MockClock) -> None:
    """Behind the FIN the door waits two seconds for the client's own, and no longer."""
    async with second_door() as door:
        link = await door.connect(INDEX + b"\r\n", http2=False)
        await read_all(link)
        began = trio.current_time()
        await door.all_closed()
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)
        link.close()


async def test_one_connection_carries_one_exchange(autojump_clock: MockClock) -> None:
    """A pipelined second request gets no reply and holds nothing up."""
    async with second_door() as door:
        reply = await door.h1((INDEX + b"\r\n") * 2)
    assert reply.count(b"HTTP/1.1 ") == 1


async def test_replies_have_one_date_and_no_server(autojump_clock: MockClock) -> None:
    """Hypercorn adds no fields of its own."""
    async with second_door() as door:
        _, fields, _ = head_of(await door.h1(INDEX + b"\r\n"))
    names = [field.partition(b":")[0] for field in fields]
    assert names.count(b"date") == 1
    assert b"server" not in names


async def test_received_bytes_come_first(autojump_clock: MockClock) -> None:
    """What was read before the hand-over is served as if it had just come."""
    async with second_door() as door:
        link = await door.connect(INDEX[:10], http2=False)
        await link.send(INDEX[10:] + b"\r\n")
        assert head_of(await read_all(link))[0].startswith(b"HTTP/1.1 200")
        link.close()


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    ],
)
async def test_no_upgrade_changes_the_protocol(fields: bytes, autojump_clock: MockClock) -> None:
    """h2c and WebSocket upgrades are read as the plain requests that they also are."""
    async with second_door() as door:
        line, _, _ = head_of(await door.h1(INDEX + fields + b"\r\n"))
    assert line.startswith(b"HTTP/1.1 200")


async def test_a_preface_is_no_request(autojump_clock: MockClock) -> None:
    """HTTP/2 is spoken only when the caller says so."""
    async with second_door() as door:
        line, _, _ = head_of(await door.h1(PREFACE))
        assert line[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5", b"")


async def test_a_body_of_a_page_is_read(autojump_clock: MockClock) -> None:
    """A view gets its request body, chunked or not, also when it is larger than the buffers."""

    async def count() -> Response:
        from quart import request

        return Response(str(len(await request.get_data())))

    async with second_door() as door:
        door.app.add_url_rule("/count", "count", count, methods=["POST"])
        head = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        link = await door.connect(head, http2=False)
        await link.send(b"x" * 1_000_000)
        assert head_of(await read_all(link))[2] == b"1000000"
        link.close()


async def test_a_reply_that_nobody_reads_is_given_up(autojump_clock: MockClock) -> None:
    """A page larger than the socket's buffers ends with the link's write timeout."""

    async def large() -> Response:
        return Response(b"x" * 10_000_000)

    async with second_door() as door:
        door.app.add_url_rule("/large", "large", large)
        link = await door.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", http2=False, write_timeout=5)
        began = trio.current_time()
        await door.all_closed()
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        link.close()


@pytest.mark.parametrize("http2", [False, True])
async def test_a_view_ends_with_its_client(http2: bool, autojump_clock: MockClock) -> None:
    """A client that leaves cancels the view that works for it."""
    ended = trio.Event()

    async def slow() -> Response:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with second_door() as door:
        door.app.add_url_rule("/slow", "slow", slow)
        if http2:
            async with door.h2() as client:
                stream = await client.request(b"GET", b"/slow")
                await trio.sleep(1)
                await client.reset(stream)
                await ended.wait()
        else:
            link = await door.connect(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", http2=False)
            await trio.sleep(1)
            link.close()
            await ended.wait()


# ---- faults


HOSTILE = {
    "a preface without settings": PREFACE,
    "half a preface": PREFACE[:10],
    "no preface": b"GET / HTTP/1.1\r\n\r\n",
    "an overlong frame": PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "data on stream 0": PREFACE + bytes.fromhex("00000004000000000000000500000000000048656c6c6f"),
    "data on an idle stream": PREFACE + bytes.fromhex("00000004000000000000000100000000000178"),
    "a naked continuation": PREFACE + bytes.fromhex("00000004000000000000000109040000000182"),
    "a stream that depends on itself": PREFACE
    + bytes.fromhex("0000000400000000000000050200000000010000000110"),
    "a broken field block": PREFACE + bytes.fromhex("000000040000000000000004010500000001ffffffff"),
    "an even stream": PREFACE + bytes.fromhex("00000004000000000000000101050000000282"),
    "a window update of 0": PREFACE + bytes.fromhex("00000004000000000000000408000000000000000000"),
    "a window that overflows": PREFACE + bytes.fromhex("0000000400000000000000040800000000007fffffff"),
    "settings of a wrong size": PREFACE + bytes.fromhex("00000104000000000000"),
    "a push promise": PREFACE + bytes.fromhex("0000000400000000000000050504000000010000000282"),
    "garbage": PREFACE + bytes(range(256)) * 20,
}


@fault("K1")
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_openings_harm_only_themselves(name: str, autojump_clock: MockClock) -> None:
    """Whatever a peer opens with, nothing is raised, its connection ends, and a bystander is served."""
    async with second_door() as door, door.h2() as bystander:
        link = await door.connect(HOSTILE[name])
        await read_all(link)
        link.close()
        assert (await bystander.fetch(b"GET", PATH)).status == 200


def _frame(random: Random, encoder: Encoder) -> Frame:
    """Any frame, mostly of few streams, mostly in an order that HTTP/2 does not allow."""
    stream = random.choice([1, 1, 1, 3, 5, 2, 2**31 - 1])
    pseudo = [(b":method", random.choice([b"GET", b"POST", b"CONNECT", b""])), (b":scheme", b"http")]
    pseudo += [(b":authority", b"a"), (b":path", random.choice([PATH, b"/", b"*", b"\xff"]))]
    extra = [(b"content-length", b"3"), (b"te", b"trailers"), (b":status", b"100"), (b"", b"")]
    head = HeadersFrame(stream, data=encoder.encode([*pseudo, *random.sample(extra, random.randrange(2))]))
    for flag in random.choice([[], ["END_HEADERS"], ["END_HEADERS"], ["END_HEADERS", "END_STREAM"]]):
        head.flags.add(flag)
    data = DataFrame(stream, data=bytes(random.randrange(50)))
    if random.random() < 0.4:
        data.flags.add("END_STREAM")
    return random.choice(
        [
            head,
            head,
            data,
            data,
            RstStreamFrame(stream, error_code=random.randrange(20)),
            WindowUpdateFrame(random.choice([0, stream]), window_increment=random.choice([1, 2**31 - 1])),
            SettingsFrame(settings={random.randrange(1, 10): random.choice([0, 1, 65_535, 2**31 - 1])}),
            PriorityFrame(stream, depends_on=random.choice([0, stream]), stream_weight=1),
            PingFrame(opaque_data=b"01234567"),
            GoAwayFrame(error_code=random.randrange(2)),
            ContinuationFrame(stream, data=b"\x82"),
        ]
    )


@fault("K1")
@pytest.mark.parametrize("seed", range(30))
async def test_frames_in_any_order_harm_only_themselves(seed: int, autojump_clock: MockClock) -> None:
    """Whatever valid frames follow each other, nothing is raised and nothing is left."""
    random, encoder = Random(seed), Encoder()
    async with second_door() as door:
        data = OPENED + b"".join(_frame(random, encoder).serialize() for _ in range(40))
        cut = random.randrange(len(data))
        link = await door.connect(data[:cut])
        await trio.sleep(1)
        with contextlib.suppress(OSError):
            await link.send(data[cut:])
        with trio.move_on_after(100):
            await read_all(link)
        link.close()
        await door.all_closed()


@pytest.mark.parametrize("http2", [False, True])
async def test_a_bug_is_raised_once_and_bare(http2: bool, autojump_clock: MockClock) -> None:
    """What is no peer's fault reaches the caller's guard as it was raised, outside of any group."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("a bug")

    async with second_door(asgi=broken) as door:
        if http2:
            async with door.h2() as client:
                await client.request(b"GET", PATH)
                await client.closed()
        else:
            assert await door.h1(INDEX + b"\r\n") == b""
        await door.all_closed()
        (bug,) = door.bugs
        assert repr(bug) == "LookupError('a bug')"
        door.bugs.clear()


async def test_a_bug_in_a_view_is_an_answer(autojump_clock: MockClock) -> None:
    """A view that fails answers 500 as a problem document; its connection and its neighbours go on."""

    async def broken() -> Response:
        raise LookupError("a bug")

    async with second_door() as door, door.h2() as client:
        door.app.add_url_rule("/broken", "broken", broken)
        reply = await client.fetch(b"GET", b"/broken")
        assert (reply.status, reply.header(b"content-type")) == (500, b"application/problem+json")
        assert b"LookupError" not in reply.body
        assert (await client.fetch(b"GET", PATH)).status == 200


async def test_an_app_that_returns_early_leaves_no_whole_reply(autojump_clock: MockClock) -> None:
    """An application that stops inside its reply leaves a reset, not an end."""

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with second_door(asgi=half) as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH)
    assert (reply.ended, reply.reset) == (False, 2)


async def test_cancelling_the_caller_ends_everything(autojump_clock: MockClock) -> None:
    """A cancelled `serve` closes its link and leaves no task."""

    async def hang(exchange: Exchange) -> None:
        await trio.sleep_forever()

    async with second_door(hang) as door:
        ours, theirs = link_pair()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery, open_h2(ours) as client:

                async def serve() -> None:
                    await door.door.serve(theirs, b"", http2=True)

                nursery.start_soon(serve)
                await client.request(b"GET", PATH)
                await trio.sleep(1)
                scope.cancel()
        assert scope.cancelled_caught
        assert theirs.closed
        assert len(door.exchanges) == 1


async def test_a_connection_over_many_requests_leaves_nothing(autojump_clock: MockClock) -> None:
    """Streams, outboxes and uploads are forgotten when they end, however they end."""

    async def serve(exchange: Exchange) -> None:
        await (answer if exchange.path.endswith(b"early") else echo)(exchange)

    async with second_door(serve) as door, door.h2() as client:
        for _ in range(50):
            await client.fetch(b"POST", PATH, body=b"hello")
            early = await client.request(b"POST", PATH + b"/early", end=False)
            await client.reply(early)
            cut = await client.request(b"POST", PATH, end=False)
            await client.reset(cut)
        await trio.sleep(1)
        (connection,) = door.door._connections
        protocol: Any = connection.protocol
        assert (protocol._streams, protocol._inflows, protocol._sender.outboxes) == ({}, {}, {})
        assert protocol.idle
