"""The two halves of an exchange on HTTP/1.1, against bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from trio_gateway.config.model import Limits
from trio_gateway.errors import (
    ClientError,
    ClientGone,
    ClientStalled,
    MalformedRequestBody,
    PayloadTooLarge,
    RequestTimeout,
)
from trio_gateway.proxy.exchange import Body, Reply
from trio_gateway.proxy.link import Link
from trio_gateway.server.h1 import H1Body, H1Writer, NoBody
from trio_gateway.wire.request import RequestHead, parse_request


class Wire:
    """A link and the client's socket."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.link = Link(near, ("127.0.0.1", 9), ("127.0.0.1", 8))
        self.near = near

    def sent(self) -> bytes:
        """What the gateway wrote so far."""
        return self.far.recv(1 << 20)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Both ends are closed behind the test."""
    wire = Wire()
    yield wire
    wire.near.close()
    wire.far.close()


def head(*fields: str, method: str = "POST", version: str = "1.1") -> RequestHead:
    lines = [f"{method} / HTTP/{version}", "Host: a", *fields, "", ""]
    return parse_request("\r\n".join(lines).encode(), Limits())


async def read(body: H1Body) -> bytes:
    data = b""
    while piece := await body.read():
        data += piece
    return data


# ---- the request's body -----------------------------------------------------------------------------

LENGTH = "Content-Length: 5"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("field", "received", "later", "whole", "leftover"),
    [
        (LENGTH, b"hello", b"", True, b""),
        (LENGTH, b"helloGET", b"", True, b"GET"),
        (LENGTH, b"", b"hello", True, b""),  # it stood in the socket already
        (LENGTH, b"he", b"lloGET", True, b"GET"),
        (LENGTH, b"he", b"", False, b""),
        (LENGTH, b"", b"", False, b""),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"", True, b""),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\nGET", b"", True, b"GET"),
        (CHUNKED, b"5\r\nhel", b"", False, b""),
    ],
)
async def test_a_body_that_is_here_is_whole(
    field: str, received: bytes, later: bytes, whole: bool, leftover: bytes, wire: Wire
) -> None:
    """It needs no task, and what came behind it is kept for the next request."""
    if later:
        wire.far.send(later)
    body = H1Body(head(field), wire.link, received, 0)
    assert (body.whole, body.complete) == (whole, whole)
    if whole:
        assert (body.buffered, body.received, body.leftover) == (b"hello", 5, leftover)


@pytest.mark.parametrize("field", [LENGTH, CHUNKED])
async def test_a_body_is_read_as_it_comes(field: str, wire: Wire) -> None:
    """Piece by piece to its end, which may be asked for again."""
    data = b"hello" if field == LENGTH else b"2\r\nhe\r\n3;x\r\nllo\r\n0\r\nX: y\r\n\r\n"
    body = H1Body(head(field), wire.link, data[:1], 0)
    async with trio.open_nursery() as nursery:

        async def client() -> None:
            for at in range(1, len(data)):
                wire.far.send(data[at : at + 1])
                await trio.lowlevel.checkpoint()

        nursery.start_soon(client)
        assert await read(body) == b"hello"
    assert (body.complete, body.received, await body.read()) == (True, 5, b"")
    assert body.trailers == ([] if field == LENGTH else [(b"X", b"y")])
    assert body.length == (5 if field == LENGTH else None)


@pytest.mark.parametrize(
    ("field", "data", "error"),
    [
        (CHUNKED, b"xyz\r\n", MalformedRequestBody),
        (CHUNKED, b"2\r\nabc\r\n", MalformedRequestBody),
        (CHUNKED, b"9\r\n123456789\r\n0\r\n\r\n", PayloadTooLarge),
        (LENGTH, b"he", ClientGone),
        (CHUNKED, b"5\r\nhel", ClientGone),
    ],
)
async def test_a_body_that_can_not_be_served_says_why(
    field: str, data: bytes, error: type[ClientError], wire: Wire
) -> None:
    """Malformed, larger than its limit, or cut by its client."""
    body = H1Body(head(field), wire.link, b"", 0)
    body.limit = 8
    wire.far.send(data)
    wire.far.shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        await read(body)


async def test_a_body_that_drips_is_too_slow(wire: Wire, autojump_clock: object) -> None:
    """`min_rate`, after its grace."""
    body = H1Body(head("Content-Length: 1000000"), wire.link, b"", 100)

    async def client() -> None:
        for _ in range(20):
            await trio.sleep(1)
            wire.far.send(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with pytest.raises(RequestTimeout):
            await read(body)
        nursery.cancel_scope.cancel()
    assert 5 < trio.current_time() < 7


@pytest.mark.parametrize("early", [b"", b"he"])
async def test_100_is_said_at_the_first_read_and_only_if_nothing_came(early: bytes, wire: Wire) -> None:
    """A client that sends at once was not waiting."""
    body = H1Body(head(LENGTH, "Expect: 100-continue"), wire.link, early, 0)
    with pytest.raises(BlockingIOError):
        wire.sent()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, body)
        await trio.testing.wait_all_tasks_blocked()
        if early:
            with pytest.raises(BlockingIOError):
                wire.sent()
        else:
            assert wire.sent() == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.far.send(b"hello"[len(early) :])


async def test_100_is_never_said_behind_a_final_head(wire: Wire) -> None:
    """A backend may answer before the upload has begun: a 100 would stand inside its reply."""
    request = head(LENGTH, "Expect: 100-continue")
    body = H1Body(request, wire.link, b"", 0)
    writer = H1Writer(wire.link, request, body, keep_alive=True)
    writer.start(Reply(200, [], Body(), 5))
    await writer.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, body)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert b"100" not in wire.sent()


async def test_no_body_is_a_body_that_is_over() -> None:
    """One object serves every request without one."""
    body = NoBody()
    assert (body.whole, body.complete, await body.read()) == (True, True, b"")


# ---- the reply --------------------------------------------------------------------------------------


def writer(wire: Wire, request: RequestHead, *, keep_alive: bool = True, closing: bool = False) -> H1Writer:
    return H1Writer(wire.link, request, NoBody(), keep_alive=keep_alive, closing=lambda: closing)


def framing(raw: bytes) -> tuple[list[bytes], bytes]:
    """The fields that frame a message, and what stands behind its head."""
    top, _, body = raw.partition(b"\r\n\r\n")
    names = (b"content-length", b"transfer-encoding", b"connection")
    return [line for line in top.split(b"\r\n") if line.partition(b":")[0].lower() in names], body


@pytest.mark.parametrize(
    ("method", "version", "status", "length", "fields", "body"),
    [
        ("GET", "1.1", 200, 4, [b"Content-Length: 4"], b"data"),
        ("GET", "1.1", 200, None, [b"Transfer-Encoding: chunked"], b"4\r\ndata\r\n0\r\n\r\n"),
        ("GET", "1.0", 200, 4, [b"Content-Length: 4", b"Connection: close"], b"data"),
        ("GET", "1.0", 200, None, [b"Connection: close"], b"data"),
        ("HEAD", "1.1", 200, 4, [b"Content-Length: 4"], b""),
        ("HEAD", "1.1", 200, None, [], b""),
        ("GET", "1.1", 304, 4, [b"Content-Length: 4"], b""),
        ("GET", "1.1", 304, None, [], b""),
        ("GET", "1.1", 204, None, [], b""),
        ("GET", "1.1", 204, 4, [], b""),
    ],
)
async def test_each_message_is_framed_by_us(
    method: str, version: str, status: int, length: int | None, fields: list[bytes], body: bytes, wire: Wire
) -> None:
    """One valid length where it is known, else chunks, else the end of the connection (RFC 9112 6)."""
    reply = writer(wire, head(method=method, version=version), keep_alive=version == "1.1")
    reply.start(Reply(status, [(b"X", b"y")], Body(b"data"), length))
    await reply.finish(b"data", [])
    assert framing(wire.sent()) == (fields, body)
    assert reply.keep_alive is (version == "1.1")
    assert reply.sent == (4 if body else 0)


async def test_an_http_1_0_client_that_asks_for_it_is_kept() -> None:
    """Where the length is known."""
    for length, kept in ((4, True), (None, False)):
        wire = Wire()
        reply = writer(wire, head("Connection: keep-alive", version="1.0"))
        reply.start(Reply(200, [], Body(b"data"), length))
        await reply.finish(b"data", [])
        assert reply.keep_alive is kept
        assert (b"Connection: keep-alive" in framing(wire.sent())[0]) is kept
        wire.near.close()
        wire.far.close()


@pytest.mark.parametrize(
    ("status", "proxied", "closing", "unread", "kept"),
    [
        (200, True, False, False, True),
        (200, True, True, False, False),
        (200, True, False, True, False),
        (400, True, False, False, True),
        (400, False, False, False, False),
        (404, False, False, False, True),
    ],
)
async def test_when_the_connection_can_not_go_on_the_reply_says_so(
    status: int, proxied: bool, closing: bool, unread: bool, kept: bool, wire: Wire
) -> None:
    """Draining, a body that was not read, or a request that nobody understood."""
    request = head("Content-Length: 9" if unread else "X: y")
    body = H1Body(request, wire.link, b"", 0) if unread else NoBody()
    reply = H1Writer(wire.link, request, body, keep_alive=True, closing=lambda: closing)
    reply.start(Reply(status, [], Body(b""), 0, proxied=proxied))
    await reply.finish(b"", [])
    assert reply.keep_alive is kept
    assert (b"Connection: close" in framing(wire.sent())[0]) is not kept


async def test_the_head_leaves_with_the_first_piece(wire: Wire) -> None:
    """In one send; or alone when it is flushed, once."""
    reply = writer(wire, head())
    reply.start(Reply(200, [], Body(b"data")))
    assert not reply.committed
    await reply.write(b"data")
    assert reply.committed
    assert wire.sent().endswith(b"\r\n\r\n4\r\ndata\r\n")
    await reply.flush()
    await reply.write(b"more")
    assert wire.sent() == b"4\r\nmore\r\n"
    reply = writer(wire, head())
    reply.start(Reply(200, [], Body(b"data")))
    await reply.flush()
    await reply.flush()
    assert wire.sent().endswith(b"chunked\r\n\r\n")


async def test_an_errors_reply_replaces_one_that_has_not_left(wire: Wire) -> None:
    """Nothing of the first one's framing stays."""
    reply = writer(wire, head())
    reply.start(Reply(200, [], Body(b"data")))
    reply.start(Reply(502, [], Body(b"sorry"), 5, proxied=False))
    await reply.finish(b"sorry", [])
    assert framing(wire.sent()) == ([b"Content-Length: 5"], b"sorry")


@pytest.mark.parametrize(
    ("te", "end"),
    [("TE: trailers", b"0\r\nX-Sum: 1\r\n\r\n"), ("TE: gzip", b"0\r\n\r\n"), ("X: y", b"0\r\n\r\n")],
)
async def test_trailers_go_to_who_asked(te: str, end: bytes, wire: Wire) -> None:
    """RFC 9110 6.5.1."""
    reply = writer(wire, head(te))
    reply.start(Reply(200, [], Body(b"data")))
    await reply.finish(b"", [(b"X-Sum", b"1")])
    assert wire.sent().endswith(b"\r\n\r\n" + end)


@pytest.mark.parametrize(
    ("version", "committed", "passed"), [("1.1", False, True), ("1.0", False, False), ("1.1", True, False)]
)
async def test_interim_replies_come_before_the_final_one(
    version: str, committed: bool, passed: bool, wire: Wire
) -> None:
    """And only to clients that know them."""
    reply = writer(wire, head(version=version))
    reply.committed = committed
    await reply.interim(103, [(b"Link", b"</a>")])
    if passed:
        assert wire.sent() == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert not reply.committed
    else:
        with pytest.raises(BlockingIOError):
            wire.sent()


@pytest.mark.parametrize(("trouble", "error"), [("gone", ClientGone), ("stalled", ClientStalled)])
async def test_a_client_that_can_not_take_it_ends_the_exchange(
    trouble: str, error: type[ClientError], wire: Wire, autojump_clock: object
) -> None:
    """By its own name in the log."""
    wire.link.write_timeout = 5.0
    reply = writer(wire, head())
    reply.start(Reply(200, [], Body(b"data")))
    if trouble == "gone":
        wire.far.close()
    with pytest.raises(error):
        await reply.write(bytes(10_000_000))


async def test_aborting_closes_the_connection(wire: Wire) -> None:
    """It serves no further request."""
    reply = writer(wire, head())
    reply.abort()
    assert (reply.aborted, reply.keep_alive, wire.link.closed) == (True, False, True)
