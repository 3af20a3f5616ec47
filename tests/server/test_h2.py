"""HTTP/2 by stream: flow control, resets, trailers, floods, draining. The client is h2's own."""

from __future__ import annotations

import contextlib

import pytest
import trio
from attrs import evolve
from h2.errors import ErrorCodes
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from trio.testing import MockClock

from tests.support.faults import fault, through
from tests.support.h2client import H2Client
from tests.support.second_door import answer, echo, second_door
from trio_gateway.config.model import GatewayConfig, Limits, ServerConfig, ServerTimeouts
from trio_gateway.errors import ClientGone, ClientStalled
from trio_gateway.proxy.exchange import Body, Exchange, Reply
from trio_gateway.wire.request import H2_PREFACE

pytestmark = through("h2")

PATH = b"/orchestrator/users"
WINDOW = 256 * 1024


def configured(**limits: object) -> GatewayConfig:
    """The defaults, with some of `server.limits` changed."""
    return GatewayConfig(server=ServerConfig(limits=evolve(Limits(), **limits)))


async def hang(exchange: Exchange) -> None:
    """Never read, never answer."""
    await trio.sleep_forever()


async def stream_for_ever(exchange: Exchange) -> None:
    """Answer with more than anybody reads."""
    exchange.writer.start(Reply(200, [], Body()))
    while True:
        await exchange.writer.write(b"x" * 16_384)


# ---- exchanges


async def test_a_request_is_answered(autojump_clock: MockClock) -> None:
    """A GET gets its reply, and fields that Hypercorn would add stay away."""
    async with second_door() as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH + b"?a=1&&b=%2F")
    assert (reply.status, reply.headers, reply.ended) == (200, [(b"content-length", b"0")], True)
    (exchange,) = door.exchanges
    assert (exchange.request.target, exchange.path, exchange.query) == (
        PATH + b"?a=1&&b=%2F",
        PATH,
        b"a=1&&b=%2F",
    )
    assert (exchange.request.version, exchange.request.host, exchange.door) == (
        b"2",
        b"gateway.test",
        "quart",
    )
    assert exchange.client == "192.0.2.7"


async def test_bodies_stream_both_ways_at_once(autojump_clock: MockClock) -> None:
    """What the client sends comes back piece by piece while it goes on sending."""

    async def parrot(exchange: Exchange) -> None:
        exchange.writer.start(Reply(200, [], Body()))
        await exchange.writer.flush()
        while piece := await exchange.body.read():
            await exchange.writer.write(piece)
        await exchange.writer.finish(b"", [])

    async with second_door(parrot) as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        reply = await client.head(stream)
        for number in range(3):
            await client.send(stream, b"piece %d" % number)
            await client.wait_for(lambda expected=b"piece %d" % number: reply.body.endswith(expected))
        await client.end(stream)
        await client.reply(stream)
    assert bytes(reply.body) == b"piece 0piece 1piece 2"


async def test_a_small_body_is_whole_at_once(autojump_clock: MockClock) -> None:
    """A body that came with its head needs no upload of its own, and its length is known."""
    async with second_door() as door, door.h2() as client:
        await client.fetch(b"POST", PATH, body=b"hello")
    (exchange,) = door.exchanges
    assert (exchange.body.whole, exchange.body.complete, exchange.body.received) == (True, True, 5)


async def test_a_megabyte_each_way_is_exact(autojump_clock: MockClock) -> None:
    """Windows open as bytes go on: nothing is lost, doubled or out of order."""
    sent = bytes(range(256)) * 8192
    async with second_door() as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        await client.send(stream, sent, end=True)
        reply = await client.reply(stream)
    assert bytes(reply.body) == sent


async def test_trailers_pass_both_ways(autojump_clock: MockClock) -> None:
    """Request trailers reach the exchange; reply trailers reach a client that says `TE: trailers`."""

    async def serve(exchange: Exchange) -> None:
        while await exchange.body.read():
            pass
        exchange.writer.start(Reply(200, [], Body()))
        await exchange.writer.finish(b"data", [(b"X-Sum", exchange.body.trailers[0][1])])

    async with second_door(serve) as door, door.h2() as client:
        for te, expected in (([(b"te", b"trailers")], [(b"x-sum", b"7")]), ([], [])):
            stream = await client.request(b"POST", PATH, te, end=False)
            await client.send(stream, b"1234567")
            await client.end(stream, [(b"x-count", b"7")])
            reply = await client.reply(stream)
            assert (reply.trailers, reply.ended, reply.reset) == (expected, True, None)


async def test_interim_replies_pass(autojump_clock: MockClock) -> None:
    """103 goes before the final head, with its fields."""

    async def serve(exchange: Exchange) -> None:
        await exchange.writer.interim(103, [(b"Link", b"</a.css>; rel=preload")])
        await answer(exchange)

    async with second_door(serve) as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH)
    assert reply.interim == [(103, [(b"link", b"</a.css>; rel=preload")])]
    assert reply.status == 200


async def test_a_waiting_client_is_asked_for_its_body(autojump_clock: MockClock) -> None:
    """100 goes out when the body is first read, not before."""
    asked = trio.Event()

    async def serve(exchange: Exchange) -> None:
        await asked.wait()
        await echo(exchange)

    async with second_door(serve) as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, [(b"expect", b"100-continue")], end=False)
        await trio.sleep(1)
        assert not client.replies[stream].interim
        asked.set()
        await client.wait_for(lambda: client.replies[stream].interim)
        await client.send(stream, b"body", end=True)
        reply = await client.reply(stream)
    assert (reply.interim, bytes(reply.body)) == ([(100, [])], b"body")


async def test_the_head_leaves_before_the_body(autojump_clock: MockClock) -> None:
    """An event stream opens at once, and each event is its own frame when it is written."""

    async def events(exchange: Exchange) -> None:
        exchange.writer.start(Reply(200, [(b"Content-Type", b"text/event-stream")], Body()))
        await exchange.writer.flush()
        for number in range(3):
            await trio.sleep(10)
            await exchange.writer.write(b"data: %d\n\n" % number)
        await exchange.writer.finish(b"", [])

    async with second_door(events) as door, door.h2() as client:
        began = trio.current_time()
        stream = await client.request(b"GET", PATH)
        await client.head(stream)
        assert trio.current_time() == began
        reply = await client.reply(stream)
    assert [(round(when - began), data) for when, data in reply.pieces[:3]] == [
        (10, b"data: 0\n\n"),
        (20, b"data: 1\n\n"),
        (30, b"data: 2\n\n"),
    ]


# ---- flow control


async def test_a_stalled_upload_holds_its_window_and_no_more(autojump_clock: MockClock) -> None:
    """Of a body that nobody reads exactly one window is taken, and the other streams go on."""

    async def serve(exchange: Exchange) -> None:
        await (hang if exchange.request.method == b"PUT" else echo)(exchange)

    async with second_door(serve) as door, door.h2() as client, trio.open_nursery() as nursery:
        stalled = [await client.request(b"PUT", PATH, end=False) for _ in range(20)]
        for stream in stalled:
            nursery.start_soon(client.send, stream, b"x" * (2 * WINDOW))
        await trio.sleep(1)
        left = [client.h2.local_flow_control_window(stream) for stream in stalled]
        reply = await client.fetch(b"POST", PATH, body=b"hello")
        assert (left, bytes(reply.body)) == ([0] * 20, b"hello")
        nursery.cancel_scope.cancel()


async def test_credit_follows_the_reader(autojump_clock: MockClock) -> None:
    """A window opens only by what was taken and then asked to go on."""
    go_on = trio.Event()

    async def serve(exchange: Exchange) -> None:
        taken = 0
        while taken < WINDOW:
            taken += len(await exchange.body.read())
        await go_on.wait()
        await echo(exchange)

    async with second_door(serve) as door, door.h2() as client, trio.open_nursery() as nursery:
        stream = await client.request(b"POST", PATH, end=False)
        nursery.start_soon(client.send, stream, b"x" * (4 * WINDOW))
        await trio.sleep(1)
        sent = door.exchanges[0].body.received
        assert WINDOW <= sent <= 2 * WINDOW
        await trio.sleep(1)
        assert door.exchanges[0].body.received == sent
        go_on.set()
        await trio.sleep(1)
        assert door.exchanges[0].body.received == 4 * WINDOW
        nursery.cancel_scope.cancel()


async def test_padding_is_credited(autojump_clock: MockClock) -> None:
    """Padding uses up no window for good."""
    async with second_door() as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        for _ in range(3000):  # 3000 * 256 bytes are three windows
            await client.window(stream)
            client.h2.send_data(stream, b"x", pad_length=254)
            await client.flush()
        await client.end(stream)
        assert len((await client.reply(stream)).body) == 3000


async def test_a_closed_window_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    """A stream whose client takes nothing waits alone, with a bounded amount taken from its source."""

    async def serve(exchange: Exchange) -> None:
        await (stream_for_ever if exchange.path.endswith(b"/big") else echo)(exchange)

    async with second_door(serve) as door, door.h2(initial_window=1000, acknowledge=False) as client:
        big = await client.request(b"GET", PATH + b"/big")
        await client.wait_for(lambda: len(client.replies[big].body) == 1000)
        small = await client.fetch(b"GET", PATH)
        assert small.status == 200
        assert door.exchanges[0].writer.sent <= 1000 + WINDOW


async def test_a_window_that_stays_closed_ends_the_stream(autojump_clock: MockClock) -> None:
    """After `timeouts.write` without progress the stream is reset; the connection lives."""
    async with second_door(stream_for_ever) as door, door.h2(initial_window=100, acknowledge=False) as client:
        began = trio.current_time()
        reply = await client.fetch(b"GET", PATH)
        assert reply.reset == ErrorCodes.INTERNAL_ERROR
        assert trio.current_time() - began == pytest.approx(30, abs=0.1)
        assert isinstance(door.exchanges[0].error, ClientStalled)
        assert door.open == 1


async def test_a_window_that_opens_by_drips_ends_the_stream(autojump_clock: MockClock) -> None:
    """Below `min_rate`, though never idle for long, the stream is reset."""
    async with second_door(stream_for_ever) as door, door.h2(initial_window=100, acknowledge=False) as client:
        stream = await client.request(b"GET", PATH)
        with trio.fail_after(30):
            while not client.replies[stream].done:
                await trio.sleep(2)
                if not client.replies[stream].done:
                    await client.open_window(100, stream)
        assert isinstance(door.exchanges[0].error, ClientStalled)


async def test_an_upload_that_drips_is_refused(autojump_clock: MockClock) -> None:
    """A body below `min_rate` ends with RequestTimeout, whatever its idle timer says."""
    async with second_door() as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        with trio.fail_after(30):
            while not client.replies[stream].done:
                await client.send(stream, b"x")
                await trio.sleep(2)
        assert door.exchanges[0].error is not None
        assert door.exchanges[0].error.status == 408


async def test_a_client_that_reads_nothing_ends_its_connection(
    autojump_clock: MockClock,
) -> None:
    """Bytes that the socket does not take for `timeouts.write` end the connection."""
    async with second_door(stream_for_ever) as door:
        link = await door.connect(write_timeout=5)
        client = H2Client(link)
        await client.start(initial_window=2**30)
        await client.open_window(2**30)
        await client.request(b"GET", PATH)
        began = trio.current_time()
        await door.all_closed()
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        link.close()


# ---- ends


async def test_a_reset_ends_the_exchange_at_once(autojump_clock: MockClock) -> None:
    """RST_STREAM cancels the exchange in the same moment, also behind body bytes that nobody reads."""
    for end in (True, False):
        async with second_door(hang) as door, door.h2() as client:
            stream = await client.request(b"POST", PATH, end=end)
            if not end:
                await client.send(stream, b"x" * 100_000)
            await trio.sleep(1)
            began = trio.current_time()
            await client.reset(stream)
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(door.exchanges[0].error, ClientGone)
            assert trio.current_time() == began
            assert (await client.head(await client.request(b"GET", b"/"))).status == 200


async def test_the_end_of_the_connection_ends_its_exchanges(autojump_clock: MockClock) -> None:
    """A FIN or a reset of the connection is every stream's departure."""
    for abort in (False, True):
        async with second_door(hang) as door, door.h2() as client:
            for _ in range(3):
                await client.request(b"GET", PATH)
            await trio.sleep(1)
            client.link.abort() if abort else client.link.close()
            await trio.testing.wait_all_tasks_blocked()
            assert [type(exchange.error) for exchange in door.exchanges] == [ClientGone] * 3
            assert door.open == 0


async def test_a_truncated_reply_is_reset(autojump_clock: MockClock) -> None:
    """What there is of a reply arrives, it doesn't look whole, and the neighbours live."""

    async def serve(exchange: Exchange) -> None:
        exchange.writer.start(Reply(200, [], Body()))
        await exchange.writer.write(b"half")
        exchange.writer.abort()

    async with second_door(serve) as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH)
        assert (reply.status, bytes(reply.body)) == (200, b"half")
        assert (reply.ended, reply.reset) == (False, ErrorCodes.INTERNAL_ERROR)
        assert (await client.fetch(b"GET", b"/")).status == 200


async def test_an_early_reply_ends_the_upload(autojump_clock: MockClock) -> None:
    """A final reply while the body is open is complete first, then RST_STREAM(NO_ERROR) stops the body."""
    async with second_door(answer) as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        reply = await client.reply(stream)
        await client.wait_for(lambda: reply.reset is not None)
        assert (bytes(reply.body), reply.ended, reply.reset) == (b"ok", True, ErrorCodes.NO_ERROR)
        frame = DataFrame(stream, data=b"late")  # it was on its way
        await client.raw(frame.serialize() * 50)
        assert (await client.fetch(b"GET", PATH)).status == 200


async def test_head_and_bodiless_statuses_have_no_body(autojump_clock: MockClock) -> None:
    """HEAD and 304 keep their length and send no byte; 204 has none."""
    status = 200

    async def serve(exchange: Exchange) -> None:
        await answer(exchange, b"body", status)

    async with second_door(serve) as door, door.h2() as client:
        head = await client.fetch(b"HEAD", PATH)
        status = 304
        not_modified = await client.fetch(b"GET", PATH)
        status = 204
        empty = await client.fetch(b"GET", PATH)
    lengths = [reply.header(b"content-length") for reply in (head, not_modified, empty)]
    assert lengths == [b"4", b"4", None]
    assert [bytes(reply.body) for reply in (head, not_modified, empty)] == [b""] * 3


# ---- what a client may not do


@fault("D4")
@pytest.mark.parametrize("length", [b"4", b"6"])
async def test_a_length_that_lies_is_a_stream_error(length: bytes, autojump_clock: MockClock) -> None:
    """Content-Length and DATA differ: the stream is reset and the exchange ends, others go on."""
    async with second_door() as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, [(b"content-length", length)], end=False)
        await trio.sleep(1)
        await client.send(stream, b"12345", end=True)
        reply = await client.reply(stream)
        assert (reply.status, reply.reset) == (0, ErrorCodes.PROTOCOL_ERROR)
        assert isinstance(door.exchanges[0].error, ClientGone)
        assert not door.exchanges[0].body.complete
        assert (await client.fetch(b"GET", PATH)).status == 200


@fault("D4")
async def test_a_short_body_in_one_segment_begins_no_exchange(
    autojump_clock: MockClock,
) -> None:
    """A short body, whole in one write or ended by trailers, is never taken for a whole one."""
    async with second_door() as door, door.h2() as client:
        for trailers in (None, [(b"x-sum", b"1")]):
            stream = client.h2.get_next_available_stream_id()
            fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", PATH)]
            client.h2.send_headers(stream, [*fields, (b"content-length", b"10")])
            client.h2.send_data(stream, b"short", end_stream=trailers is None)
            if trailers:
                client.h2.send_headers(stream, trailers, end_stream=True)
            await client.flush()
        bare = await client.request(b"POST", PATH, [(b"content-length", b"10")])
        assert (await client.reply(bare)).reset == ErrorCodes.PROTOCOL_ERROR
        assert door.exchanges == []


@fault("D3")
@pytest.mark.parametrize(
    "fields",
    [
        [(b"connection", b"close")],
        [(b"keep-alive", b"timeout=5")],
        [(b"transfer-encoding", b"chunked")],
        [(b"upgrade", b"websocket")],
        [(b"te", b"gzip")],
        [(b"X-Upper", b"1")],
        [(b"x y", b"1")],
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"nul\0")],
        [(b"x", b" space")],
        [(b"", b"empty")],
        [(b":late", b"1")],
    ],
)
async def test_malformed_fields_reset_the_stream(
    fields: list[tuple[bytes, bytes]], autojump_clock: MockClock
) -> None:
    """Fields that HTTP/2 forbids are a stream error and reach nobody."""
    async with second_door() as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH, fields)
        assert (reply.status, reply.reset) == (0, ErrorCodes.PROTOCOL_ERROR)
        assert (await client.fetch(b"GET", PATH)).status == 200
    assert len(door.exchanges) == 1


@pytest.mark.parametrize(
    ("pseudo", "status"),
    [
        ({b":path": b"/orchestrator/us ers"}, 400),
        ({b":path": "/orchestrator/\u00fc".encode()}, 400),
        ({b":path": b"orchestrator"}, 400),
        ({b":path": b"http://other/orchestrator/x"}, 400),
        ({b":path": b"/orchestrator/x#y"}, 400),
        ({b":path": b"/orchestrator/" + b"x" * 9000}, 414),
        ({b":method": b"G T"}, 400),
        ({b":method": b"get"}, 400),
        ({b":method": b"BREW"}, 501),
        ({b":method": b"TRACE"}, 405),
        ({b":authority": b"a b"}, 400),
        ({b":authority": b"a@b"}, 400),
        ({b"host": b"other"}, 400),
        ({b"content-length": b"+3"}, 400),
        ({b"expect": b"tea"}, 417),
        ({b"x-large": b"x" * 40_000}, 431),
    ],
)
async def test_wrong_heads_are_answered_like_the_lanes(
    pseudo: dict[bytes, bytes], status: int, autojump_clock: MockClock
) -> None:
    """A well-formed head that nobody may serve gets the error that HTTP/1.1 would get."""
    fields = {b":method": b"GET", b":scheme": b"http", b":authority": b"a", b":path": PATH, **pseudo}
    async with second_door() as door, door.h2() as client:
        reply = await client.reply(await client.raw_request(list(fields.items())))
        assert (reply.status, reply.header(b"content-type")) == (status, b"application/problem+json")
        assert [error.status for error in door.refused] == [status]
        assert (await client.fetch(b"GET", PATH)).status == 200
    assert len(door.exchanges) == 1


async def test_many_fields_are_refused(autojump_clock: MockClock) -> None:
    """One field more than `limits.fields` is 431."""
    async with second_door() as door, door.h2() as client:
        fits = await client.fetch(b"GET", PATH, [(b"x-%d" % n, b"1") for n in range(99)])
        over = await client.fetch(b"GET", PATH, [(b"x-%d" % n, b"1") for n in range(100)])
    assert (fits.status, over.status) == (200, 431)


@pytest.mark.parametrize("extended", [False, True])
async def test_connect_is_refused(extended: bool, autojump_clock: MockClock) -> None:
    """CONNECT without a path gets 405, its extended form is no valid request; neither ends anything."""
    fields = [(b":method", b"CONNECT"), (b":authority", b"a:80")]
    if extended:
        fields += [(b":scheme", b"http"), (b":path", PATH), (b":protocol", b"websocket")]
    async with second_door() as door, door.h2() as client:
        reply = await client.reply(await client.raw_request(fields, end=False))
        assert reply.reset == ErrorCodes.PROTOCOL_ERROR if extended else reply.status == 405
        (settings,) = [event for event in client.events if isinstance(event, RemoteSettingsChanged)]
        assert SettingCodes.ENABLE_CONNECT_PROTOCOL not in settings.changed_settings
        assert (await client.fetch(b"GET", PATH)).status == 200


async def test_cookie_crumbs_are_joined(autojump_clock: MockClock) -> None:
    """Several Cookie fields become one; other duplicates and their order stay."""
    async with second_door() as door, door.h2() as client:
        await client.fetch(
            b"GET", PATH, [(b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"x", b"\xff")]
        )
    assert door.exchanges[0].request.headers == [
        (b"host", b"gateway.test"),
        (b"x", b"1"),
        (b"x", b"\xff"),
        (b"cookie", b"a=1; b=2"),
    ]


# ---- floods


def _continuations() -> bytes:
    head = HeadersFrame(1, data=b"\x82")
    return head.serialize() + ContinuationFrame(1, data=b"").serialize() * 200


def _rapid_resets(client: H2Client) -> bytes:
    data = b""
    for stream in range(1, 1001, 2):
        block = client.h2.encoder.encode(
            [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", PATH)]
        )
        head = HeadersFrame(stream, data=block)
        head.flags.add("END_HEADERS")
        head.flags.add("END_STREAM")
        data += head.serialize() + RstStreamFrame(stream, error_code=8).serialize()
    return data


def _repeated(frame: Frame) -> bytes:
    return frame.serialize() * 500


FLOODS = {
    "ping": _repeated(PingFrame(opaque_data=b"01234567")),
    "settings": _repeated(SettingsFrame(settings={3: 100})),
    "priority": b"".join(
        PriorityFrame(n, depends_on=0, stream_weight=1).serialize() for n in range(1, 1001, 2)
    ),
    "small window updates": _repeated(WindowUpdateFrame(0, window_increment=1)),
    "continuation": _continuations(),
}


@fault("D6")
@pytest.mark.parametrize("name", [*FLOODS, "rapid reset"])
async def test_floods_end_their_connection_only(name: str, autojump_clock: MockClock) -> None:
    """A flood gets a GOAWAY; a bystander on another connection notices nothing."""

    async def serve(exchange: Exchange) -> None:
        await (hang if exchange.request.host == b"a" else echo)(exchange)

    async with second_door(serve) as door, door.h2() as client, door.h2() as bystander:
        await trio.sleep(1)
        await client.raw(_rapid_resets(client) if name == "rapid reset" else FLOODS[name])
        await client.closed()
        assert client.goaway is not None
        assert client.goaway.error_code in (ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.PROTOCOL_ERROR)
        assert (await bystander.fetch(b"GET", PATH)).status == 200
        assert len(door.exchanges) <= 201


async def test_a_ping_now_and_then_is_no_flood(autojump_clock: MockClock) -> None:
    """Clients that measure the way, two pings for each reply, are served for ever."""
    async with second_door() as door, door.h2() as client:
        for _ in range(500):
            client.h2.ping(b"01234567")
            client.h2.ping(b"76543210")
            assert (await client.fetch(b"POST", PATH, body=b"x" * 100)).status == 200


@fault("K1")
async def test_a_bomb_of_fields_ends_the_connection(autojump_clock: MockClock) -> None:
    """A few bytes that unpack to more than any head may have are not unpacked to their end."""
    async with second_door() as door, door.h2() as client:
        client.h2.encoder.encode([(b"x", b"y" * 3000)])  # in the table of both sides from the next line on
        await client.request(b"GET", PATH, [(b"x", b"y" * 3000)] * 200)
        await client.closed()
        assert client.goaway is not None
        assert door.exchanges == []


async def test_answers_that_nobody_reads_are_bounded(autojump_clock: MockClock) -> None:
    """A client that only writes is not read from for ever."""
    async with second_door(answer) as door:
        link = await door.connect(write_timeout=5)
        client = H2Client(link)
        await client.start()
        stream = await client.request(b"POST", PATH, end=False)
        await trio.sleep(1)
        late = DataFrame(stream, data=b"").serialize() * 1000  # each is answered with RST_STREAM
        link.write_timeout = 60
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 100:
                await link.send(late)
                sent += 1
        assert sent < 100
        await door.all_closed()
        link.close()


async def test_our_compression_table_stays_small(autojump_clock: MockClock) -> None:
    """A client can't make us keep and search a large table of fields."""

    async def serve(exchange: Exchange) -> None:
        await answer(exchange, b"", 200, (b"x-id", exchange.hop.request_id))

    async with second_door(serve) as door, door.h2() as client:
        client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**20})
        await client.flush()
        for _ in range(300):
            assert (await client.fetch(b"GET", PATH)).status == 200
        assert client.h2.decoder.header_table_size == 4096


# ---- the connection's own life


@fault("C8")
async def test_an_idle_connection_ends(autojump_clock: MockClock) -> None:
    """After `timeouts.keep_alive` without a request: GOAWAY, then the end. Pings don't count."""
    async with second_door() as door, door.h2() as client:
        await client.fetch(b"GET", PATH)
        began = trio.current_time()
        for _ in range(7):
            await trio.sleep(10)
            client.h2.ping(b"01234567")
            await client.flush()
        await client.closed()
        assert trio.current_time() - began == pytest.approx(75, abs=0.1)
        assert client.goaway is not None
        assert client.goaway.error_code == ErrorCodes.NO_ERROR


@fault("C3")
async def test_a_stream_too_many_is_refused_alone(autojump_clock: MockClock) -> None:
    """RFC 9113 5.1.2: REFUSED_STREAM, which says that it may be sent again; the others go on."""
    go = trio.Event()

    async def wait(exchange: Exchange) -> None:
        await go.wait()
        await answer(exchange)

    async with second_door(wait) as door, door.h2() as client:
        await client.wait_for(lambda: client.h2.remote_settings.max_concurrent_streams == 100)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000  # it was told, and forgets
        client.h2.remote_settings.acknowledge()
        streams = [await client.request(b"GET", PATH) for _ in range(150)]
        refused = [await client.reply(stream) for stream in streams[100:]]
        assert [reply.reset for reply in refused] == [ErrorCodes.REFUSED_STREAM] * 50
        go.set()
        served = [await client.reply(stream) for stream in streams[:100]]
        assert [reply.status for reply in served] == [200] * 100
        assert (await client.fetch(b"GET", PATH)).status == 200
        assert client.goaway is None


async def test_streams_beyond_any_measure_end_the_connection(autojump_clock: MockClock) -> None:
    """Refusing costs something too."""
    async with second_door(hang) as door, door.h2() as client:
        await client.wait_for(lambda: client.h2.remote_settings.max_concurrent_streams == 100)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.h2.remote_settings.acknowledge()
        for _ in range(500):
            client.h2.send_headers(
                client.h2.get_next_available_stream_id(),
                [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", PATH)],
                end_stream=True,
            )
        await client.flush()
        await client.closed()
        assert client.goaway is not None


@pytest.mark.parametrize("said", [b"", H2_PREFACE, H2_PREFACE + b"\0\0"])
async def test_a_client_that_never_begins_is_not_waited_for(said: bytes, autojump_clock: MockClock) -> None:
    """The preface and its settings are due within `timeouts.head`, as any head."""
    async with second_door() as door:
        link = await door.connect()
        await link.send(said)
        while await link.receive():
            pass
        assert trio.current_time() == pytest.approx(10, abs=0.1)
        link.close()


@fault("C3")
@pytest.mark.parametrize("size", [4, 9, 12])
async def test_a_head_that_never_ends_is_not_waited_for(size: int, autojump_clock: MockClock) -> None:
    """An idle client that begins a frame or a head has `timeouts.head` to end it."""
    async with second_door() as door, door.h2() as client:
        await trio.sleep(1)
        began = trio.current_time()
        await client.raw(HeadersFrame(1, data=b"\x82" * 3).serialize()[:size])
        await client.closed()
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_a_busy_connection_is_not_idle(autojump_clock: MockClock) -> None:
    """A long poll outlives the idle timer, and the timer starts anew behind it."""

    async def serve(exchange: Exchange) -> None:
        await trio.sleep(200)
        await answer(exchange)

    async with second_door(serve) as door, door.h2() as client:
        assert (await client.fetch(b"GET", PATH)).status == 200
        await trio.sleep(70)
        assert (await client.fetch(b"GET", PATH)).status == 200


async def test_draining_finishes_what_was_begun(autojump_clock: MockClock) -> None:
    """GOAWAY at once; requests on their way are served, later ones refused; then the connection ends."""
    release = trio.Event()

    async def serve(exchange: Exchange) -> None:
        await release.wait()
        await answer(exchange)

    async with second_door(serve) as door, door.h2() as client:
        first = await client.request(b"GET", PATH)
        await trio.sleep(1)
        door.door.drain()
        await client.wait_for(lambda: client.goaway)
        assert client.goaway.last_stream_id == 2**31 - 1
        release.set()
        reply = await client.reply(first)
        assert (reply.status, reply.ended) == (200, True)
        await client.closed()
        assert client.goaway.last_stream_id == first
        assert client.goaway.error_code == ErrorCodes.NO_ERROR


async def test_draining_ends_idle_connections_and_new_ones(autojump_clock: MockClock) -> None:
    """A connection without requests ends after one round trip, and so does one that comes later."""
    async with second_door() as door, door.h2() as client:
        await client.fetch(b"GET", PATH)
        door.door.drain()
        await client.closed()
        async with door.h2() as late:
            await late.closed()
            assert late.goaway is not None


async def test_a_connection_has_so_many_requests(autojump_clock: MockClock) -> None:
    """After `limits.requests_per_connection` the connection drains; none of its requests fails."""
    async with second_door(config=configured(requests_per_connection=3)) as door, door.h2() as client:
        for _ in range(3):
            assert (await client.fetch(b"GET", PATH)).status == 200
        await client.closed()
        assert client.goaway is not None


async def test_a_client_that_says_goaway_gets_its_replies(autojump_clock: MockClock) -> None:
    """GOAWAY without error means no new streams; those that are open end as usual."""
    release = trio.Event()

    async def serve(exchange: Exchange) -> None:
        await release.wait()
        await answer(exchange)

    async with second_door(serve) as door, door.h2() as client:
        stream = await client.request(b"GET", PATH)
        await client.raw(bytes.fromhex("0000080700000000000000000000000000"))
        await trio.sleep(1)
        release.set()
        assert (await client.reply(stream)).status == 200


async def test_too_many_streams_are_too_many(autojump_clock: MockClock) -> None:
    """A hundred streams at once are served; the settings say so."""
    async with second_door() as door, door.h2() as client:
        await trio.sleep(1)
        assert client.h2.remote_settings.max_concurrent_streams == 100
        streams = [await client.request(b"POST", PATH, end=False) for _ in range(100)]
        for stream in streams:
            await client.send(stream, b"%d" % stream, end=True)
        bodies = [bytes((await client.reply(stream)).body) for stream in streams]
    assert bodies == [b"%d" % stream for stream in streams]


def test_the_timeouts_have_defaults_that_these_tests_know() -> None:
    """The numbers above are the config's defaults."""
    timeouts = ServerTimeouts()
    assert (timeouts.write, timeouts.keep_alive, timeouts.head) == (30, 75, 10)
