"""Messages keep their bounds: lengths, chunks, trailers, interim replies, and early ones."""

from __future__ import annotations

import gzip
import hashlib

import pytest
import trio

from tests.support.doors import push
from tests.support.faults import fault
from tests.support.stage import OK, USERS, Door, recording
from tests.support.upstream import Received, Wire

DOORS = ("lane", "h2", "lane-tls")


@fault("H8")
@pytest.mark.parametrize(
    ("method", "status", "fields", "length", "body"),
    [
        ("HEAD", 200, "Content-Length: 1234\r\n", ["1234"], b""),
        ("HEAD", 200, "Transfer-Encoding: chunked\r\n", [], b""),
        ("GET", 204, "", [], b""),
        ("GET", 205, "Content-Length: 0\r\n", ["0"], b""),
        ("GET", 304, 'Content-Length: 77\r\nETag: "x"\r\n', ["77"], b""),
        ("GET", 304, "", [], b""),
        ("GET", 206, "Content-Range: bytes 0-1/9\r\nContent-Length: 2\r\n", ["2"], b"ab"),
        ("GET", 200, "Content-Length: 0\r\n", ["0"], b""),
        ("GET", 299, "Content-Length: 1\r\n", ["1"], b"x"),
        ("GET", 404, "Content-Length: 1\r\n", ["1"], b"x"),
        ("POST", 500, "Content-Length: 1\r\n", ["1"], b"x"),
    ],
)
async def test_replies_without_a_body_leave_both_connections_usable(
    door: Door, method: str, status: int, fields: str, length: list[str], body: bytes
) -> None:
    """HEAD, 204, 205 and 304 are framed as RFC 9110 says; the next exchange goes over the same two."""
    reply = f"HTTP/1.1 {status} \r\n{fields}\r\n".encode() + body
    async with door.stage(recording([], reply)) as stage:
        caller = await stage.connect()
        for _ in range(2):
            answer = await caller.fetch(method, USERS)
            assert (answer.status, answer.body) == (status, body)
            assert answer.values("content-length") == length
        assert stage.backend.connections == 1


async def test_an_unusual_reason_phrase_passes(lane: Door) -> None:
    """The reason phrase is the upstream's."""
    async with lane.stage(recording([], b"HTTP/1.1 200 Fine By Me\r\nContent-Length: 0\r\n\r\n")) as stage:
        assert (await stage.get()).reason == b"Fine By Me"


@fault("H8")
async def test_compressed_bodies_are_not_touched(door: Door) -> None:
    """Content codings are the business of the two ends, in both directions."""
    packed = gzip.compress(b"hello" * 1000)
    seen: list[Received] = []
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    async with door.stage(recording(seen, reply)) as stage:
        answer = await stage.post(packed, "", "Content-Encoding: gzip", "Accept-Encoding: br;q=0.1, gzip")
        assert seen[0].body == packed
        assert seen[0].values(b"content-encoding") == [b"gzip"]
        assert seen[0].values(b"accept-encoding") == [b"br;q=0.1, gzip"]
        assert answer.body == packed
        assert answer.value("content-encoding") == "gzip"


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 1_000_000])
async def test_bodies_of_any_size_pass_whole(door: Door, size: int) -> None:
    """A body of known length arrives with that length, and comes back the same."""
    data = hashlib.shake_128(b"seed").digest(size)
    seen: list[Received] = []

    def reply(received: Received) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received.body) + received.body

    async with door.stage(recording(seen, reply)) as stage:
        answer = await stage.post(data)
        assert answer.body == data
        assert seen[0].values(b"content-length") == [b"%d" % size]
        assert seen[0].values(b"transfer-encoding") == []


@fault("rule 3")
async def test_a_streamed_upload_arrives_piece_by_piece(door: Door) -> None:
    """A body of unknown length goes on chunked, each piece when it comes."""
    pieces: list[tuple[float, bytes]] = []

    async def noting(wire: Wire) -> None:
        received = await wire.head()
        assert received.values(b"transfer-encoding") == [b"chunked"]
        assert received.values(b"content-length") == []
        while not pieces or not pieces[-1][1].endswith(b"0\r\n\r\n"):
            data = await wire.link.receive()
            pieces.append((trio.current_time(), data))
        await wire.reply(b"done")

    async with door.stage(noting) as stage:
        call = await stage.open("POST", USERS, stream=True)
        begun = trio.current_time()
        for piece in (b"one", b"two", b"three"):
            await trio.sleep(1)
            await call.send(piece)
        await trio.sleep(1)
        await call.end()
        assert (await call.answer()).body == b"done"
        assert [data for _, data in pieces] == [
            b"3\r\none\r\n",
            b"3\r\ntwo\r\n",
            b"5\r\nthree\r\n",
            b"0\r\n\r\n",
        ]
        assert [at - begun for at, _ in pieces] == pytest.approx([1, 2, 3, 4], abs=0.01)


@fault("rule 3")
async def test_an_upload_of_known_length_keeps_it(door: Door) -> None:
    """Streamed or not, a Content-Length stays one."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        call = await stage.open("POST", USERS, length=6)
        for piece in (b"abc", b"def"):
            await trio.sleep(1)
            await call.send(piece)
        assert (await call.answer()).status == 200
        assert seen[0].body == b"abcdef"
        assert seen[0].values(b"content-length") == [b"6"]
        assert seen[0].values(b"transfer-encoding") == []


@fault("rule 3")
async def test_a_chunked_reply_passes_piece_by_piece(door: Door) -> None:
    """A reply of unknown length has none on its way to the client, and loses no octet."""

    async def chunked(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in (b"5;x=y\r\nhello\r\n", b"1\r\n", b" \r\n", b"00006\r\nworld!\r\n0", b"\r\n\r\n"):
            await trio.sleep(1)
            await wire.send(data)
        await wire.closed()

    async with door.stage(chunked) as stage:
        call = await stage.open("GET", USERS)
        head = await call.head()
        assert head.values("content-length") == []
        assert head.values("transfer-encoding") == (["chunked"] if door.name == "lane" else [])
        pieces = []
        while (piece := await call.piece()) is not None:
            pieces.append(piece)
        assert pieces == [b"hello", b" ", b"world!"]
        assert stage.target().pool.statistics().idle == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_reply_that_ends_with_its_connection_is_whole(door: Door, version: bytes) -> None:
    """Without other framing the end of the connection is the end of the body (RFC 9112 6.3)."""

    async def until_close(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/%b 200 OK\r\n\r\nhello" % version)
        await trio.sleep(1)
        await wire.send(b" world")

    async with door.stage(until_close) as stage:
        caller = await stage.connect()
        for _ in range(2):
            assert (await caller.fetch("GET", USERS)).body == b"hello world"
        assert stage.backend.connections == 2


# ---- trailers -------------------------------------------------------------------------------------

CHUNKED_WITH_TRAILERS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nX-Sum: 2\r\n\r\n"
)


async def test_trailers_of_a_reply_reach_who_asks_for_them(door: Door) -> None:
    """`TE: trailers` gets them behind the body, without those that frame, route or authenticate."""
    async with door.stage(recording([], CHUNKED_WITH_TRAILERS)) as stage:
        answer = await stage.get("", "TE: trailers")
        assert answer.body == b"ok"
        assert [(name.lower(), value) for name, value in answer.trailers] == [
            (b"x-sum", b"1"),
            (b"x-sum", b"2"),
        ]
        assert answer.values("x-sum") == answer.values("set-cookie") == answer.values("trailer") == []


async def test_trailers_of_a_reply_are_not_forced_on_anyone(door: Door) -> None:
    """Without `TE: trailers` they are dropped (RFC 9110 6.5.1)."""
    async with door.stage(recording([], CHUNKED_WITH_TRAILERS)) as stage:
        answer = await stage.get()
        assert (answer.body, answer.trailers) == (b"ok", [])


async def test_trailers_of_an_upload_go_on(door: Door) -> None:
    """A request's trailers stay behind its body and never get into its head."""
    seen: list[Received] = []

    async def backend(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.reply()
        await wire.closed()

    async with door.stage(backend) as stage:
        call = await stage.open("POST", USERS, stream=True)
        await call.send(b"data")
        await call.end("X-Sum: 1", "Authorization: forged", "Content-Length: 9")
        assert (await call.answer()).status == 200
        (received,) = seen
        assert received.body == b"data"
        assert [(name.lower(), value) for name, value in received.trailers] == [(b"x-sum", b"1")]
        assert received.values(b"x-sum") == received.values(b"authorization") == []


# ---- interim and early replies ----------------------------------------------------------------------


NOT_THE_CLIENTS = (
    b"Connection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: x\r\nProxy-Authenticate: x\r\nServer: x\r\n"
    b"X-Endpoint-ID: forged\r\nX-Request-ID: forged\r\nSet-Cookie: a=b\r\n\r\n"
)


async def test_early_hints_reach_the_client(door: Door) -> None:
    """103 passes with its fields when it comes; a 100 that nobody asked for does not."""

    async def hinting(wire: Wire) -> None:
        await wire.request()
        await wire.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
        )
        await trio.sleep(1)
        await wire.send(b"HTTP/1.1 103 \r\nLink: </b>\r\nContent-Length: 5\r\n" + NOT_THE_CLIENTS + OK)
        await wire.closed()

    async with door.stage(hinting) as stage:
        call = await stage.open("GET", USERS)
        assert (await call.answer()).body == b"ok"
        hints = [(status, [(n.lower(), v) for n, v in fields]) for status, fields in call.hints]
        assert hints == [(103, [(b"link", b"</a>; rel=preload")]), (103, [(b"link", b"</b>")])]


async def test_a_body_is_asked_for_once_the_backend_is_there(door: Door) -> None:
    """`Expect: 100-continue` is answered by us, never sent on, and the upload follows."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        call = await stage.open("POST", USERS, "Expect: 100-continue", length=4)
        stage.nursery.start_soon(push, call, b"data", 1, 1.0)
        assert (await call.answer()).status == 200
        assert [status for status, _ in call.hints] == [100]
        assert (seen[0].body, seen[0].values(b"expect")) == (b"data", [])


async def test_a_refused_request_is_never_asked_for_its_body(door: Door) -> None:
    """Gates run before any 100."""
    async with door.stage(endpoint={"max_body_bytes": 3}) as stage:
        call = await stage.open("POST", USERS, "Expect: 100-continue", length=4)
        assert (await call.answer()).status == 413
        assert call.hints == []
        assert stage.backend.connections == 0
        await call.leave()


async def test_an_unknown_expectation_fails(door: Door) -> None:
    """Only 100-continue can be expected: 417."""
    async with door.stage() as stage:
        assert (await stage.get("", "Expect: miracles")).status == 417


@fault("rule 5")
async def test_an_early_reply_is_relayed_at_once(door: Door) -> None:
    """A final reply during an upload reaches the client whole, though the upload never ends."""

    async def refusing(wire: Wire) -> None:
        await wire.head()
        await wire.reply(b"no thanks", status=b"403 Forbidden")
        await wire.closed()

    async with door.stage(refusing) as stage:
        call = await stage.open("POST", USERS, length=1_000_000)
        begun = trio.current_time()
        await call.send(b"x" * 10_000)
        answer = await call.answer()
        assert (answer.status, answer.body) == (403, b"no thanks")
        assert trio.current_time() - begun < 0.05
        await trio.sleep(3)
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["completed"]


async def test_an_early_reply_survives_a_backend_that_stops_reading(door: Door) -> None:
    """A broken pipe while we upload is no error of ours: the reply that was sent before decides."""

    async def refusing(wire: Wire) -> None:
        await wire.head()
        await wire.reply(b"too much", b"Connection: close", status=b"413 Content Too Large")

    async with door.stage(refusing) as stage:
        call = await stage.open("POST", USERS, length=50_000_000)
        stage.nursery.start_soon(push, call, b"x" * 100_000, 500)
        answer = await call.answer()
        assert (answer.status, answer.body) == (413, b"too much")
