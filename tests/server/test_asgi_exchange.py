"""The halves of an exchange over plain ASGI, without a stream of ours."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_gateway.config.model import Limits
from trio_gateway.errors import BadRequest, ClientGone, ClientStalled, GatewayError, RequestTimeout
from trio_gateway.proxy.exchange import Body, Reply
from trio_gateway.proxy.link import LinkStalled
from trio_gateway.server.asgi_exchange import AsgiBody, AsgiWriter, read_request, target_of

LIMITS = Limits()


def scope(**changes: Any) -> dict[str, Any]:
    """The scope of a plain GET."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orchestrator/x",
        "raw_path": b"/orchestrator/x",
        "query_string": b"",
        "headers": [(b"host", b"a.test")],
        **changes,
    }


class Receive:
    """ASGI's `receive` with messages of its own, and a wait before each."""

    def __init__(self, *pieces: bytes, wait: float = 0.0, whole: bool = True) -> None:
        self._pieces = list(pieces)
        self._wait = wait
        self._whole = whole

    async def __call__(self) -> dict[str, Any]:
        """The next message."""
        await trio.sleep(self._wait)
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._whole}


async def never() -> None:
    """Nobody asks."""
    raise AssertionError


def body_of(receive: Receive, min_rate: int = 240, **changes: Any) -> AsgiBody:
    """A body of unknown length."""
    headers = [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    request = read_request(scope(method="POST", headers=headers, **changes), LIMITS)
    return AsgiBody(request, receive, None, never, min_rate)


async def read_whole(body: AsgiBody) -> None:
    """Read to the end."""
    while await body.read():
        pass


# ---- heads


def test_a_head_is_read_from_its_scope() -> None:
    """Method, target, host and fields are the scope's bytes."""
    request = read_request(scope(query_string=b"a=%20&&", headers=[(b"Host", b"a"), (b"X", b"\xff")]), LIMITS)
    assert (request.method, request.target, request.version) == (b"GET", b"/orchestrator/x?a=%20&&", b"1.1")
    assert (request.host, request.headers) == (b"a", [(b"Host", b"a"), (b"X", b"\xff")])


def test_a_scope_without_raw_path_has_a_target() -> None:
    """Servers may leave `raw_path` out."""
    assert target_of(scope(raw_path=None, query_string=b"q")) == b"/orchestrator/x?q"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"headers": []}, 400),
        ({"headers": [(b"host", b"a"), (b"host", b"b")]}, 400),
        ({"headers": [(b"host", b"a"), (b"x", b"1\r\ntransfer-encoding: chunked")]}, 400),
        ({"headers": [(b"host", b"a"), (b"x", b"1\r\n\r\nGET / HTTP/1.1")]}, 400),
        ({"headers": [(b"host", b"a"), (b"x\r\ny", b"1")]}, 400),
        ({"headers": [(b"host", b"a"), (b"x", b"\n")]}, 400),
        ({"headers": [(b"host", b"a"), (b"content-length", b"1"), (b"transfer-encoding", b"chunked")]}, 400),
        ({"headers": [(b"host", b"a"), (b"transfer-encoding", b"gzip")]}, 501),
        ({"raw_path": b"/a b"}, 400),
        ({"raw_path": b"/a HTTP/1.1\r\nx: y\r\n\r\n"}, 400),
        ({"raw_path": b"/a HTTP/1.1"}, 400),
        ({"method": "GET /x HTTP/1.1\r\nhost: b\r\n\r\nGET"}, 400),
        ({"method": "get"}, 400),
    ],
)
def test_wrong_heads_raise(changes: dict[str, Any], status: int) -> None:
    """The lane's rules hold, and nothing in a scope can grow into a second line."""
    with pytest.raises(GatewayError) as caught:
        read_request(scope(**changes), LIMITS)
    assert caught.value.status == status


def test_an_http_2_request_may_have_a_body_of_unknown_length() -> None:
    """Without Content-Length, a request that has not ended has a body."""
    assert read_request(scope(http_version="2"), LIMITS).has_body
    headers = [(b"host", b"a"), (b"content-length", b"0")]
    assert not read_request(scope(http_version="2", headers=headers), LIMITS).has_body


# ---- bodies


async def test_a_body_comes_in_pieces(autojump_clock: MockClock) -> None:
    """Empty pieces are passed over; the end is b""; all is counted."""
    body = body_of(Receive(b"one", b"", b"two", b""))
    assert [await body.read() for _ in range(4)] == [b"one", b"two", b"", b""]
    assert (body.received, body.complete, body.whole) == (6, True, False)


async def test_a_body_that_ends_early_is_a_departure(autojump_clock: MockClock) -> None:
    """A disconnect before the last piece is never the end of the body."""
    body = body_of(Receive(b"half", whole=False))
    assert await body.read() == b"half"
    with pytest.raises(ClientGone):
        await body.read()
    assert not body.complete


async def test_a_peek_tells_whether_there_is_a_body(autojump_clock: MockClock) -> None:
    """Under a server that says nothing of bodies, the first message does; it is not lost."""
    nothing = body_of(Receive(b""))
    await nothing.peek()
    assert (nothing.whole, nothing.buffered) == (True, b"")
    something = body_of(Receive(b"first", b"second"))
    await something.peek()
    assert not something.whole
    assert [await something.read() for _ in range(3)] == [b"first", b"second", b""]


async def test_a_drip_is_too_slow(autojump_clock: MockClock) -> None:
    """Below `min_rate` RequestTimeout is raised behind the grace; without one never."""
    body = body_of(Receive(*[b"x"] * 100, wait=1.0))
    with pytest.raises(RequestTimeout):
        await read_whole(body)
    assert 5 < trio.current_time() < 7
    body = body_of(Receive(*[b"x"] * 100, wait=1.0), min_rate=0)
    await read_whole(body)
    assert body.received == 100


async def test_a_client_that_waits_is_asked_once(autojump_clock: MockClock) -> None:
    """`Expect: 100-continue` is answered at the first read."""
    asked: list[int] = []

    async def ask() -> None:
        asked.append(1)

    headers = [(b"host", b"a"), (b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")]
    request = read_request(scope(method="POST", headers=headers), LIMITS)
    body = AsgiBody(request, Receive(b"a", b"b"), None, ask, 240)
    assert not asked
    await read_whole(body)
    assert asked == [1]


# ---- replies


class Sent:
    """ASGI's `send`; it notes messages, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self._error = error

    async def __call__(self, message: dict[str, Any]) -> None:
        """Take one message."""
        if self._error is not None:
            raise self._error
        self.messages.append(message)


async def test_a_reply_becomes_messages(autojump_clock: MockClock) -> None:
    """The head waits for the first piece; a flush sends it with an empty one, as ASGI needs."""
    sent = Sent()
    writer = AsgiWriter(sent, None, "GET", [])
    writer.start(Reply(200, [(b"X-A", b"1"), (b"Keep-Alive", b"x")], Body(), 8))
    assert (sent.messages, writer.committed) == ([], False)
    await writer.flush()
    await writer.flush()
    await writer.write(b"1234")
    await writer.finish(b"5678", [(b"X-Sum", b"1")])
    head, empty, first, last = sent.messages
    assert head["headers"] == [(b"x-a", b"1"), (b"content-length", b"8")]
    assert [(m["body"], m["more_body"]) for m in (empty, first, last)] == [
        (b"", True),
        (b"1234", True),
        (b"5678", False),
    ]
    assert (writer.committed, writer.sent) == (True, 8)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_bodies_that_may_not_be_are_not_sent(
    method: str, status: int, autojump_clock: MockClock
) -> None:
    """HEAD, 204 and 304 send no byte; all but 204 keep the length."""
    sent = Sent()
    writer = AsgiWriter(sent, None, method, [])
    writer.start(Reply(status, [], Body(), 4))
    await writer.write(b"12")
    await writer.finish(b"34", [])
    assert b"".join(message.get("body", b"") for message in sent.messages) == b""
    assert (sent.messages[0]["headers"] == []) is (status == 204)
    assert writer.sent == 0


@pytest.mark.parametrize(
    ("error", "expected"), [(BrokenPipeError(), ClientGone), (LinkStalled(), ClientStalled)]
)
async def test_faults_of_the_client_are_errors_of_ours(
    error: Exception, expected: type[GatewayError], autojump_clock: MockClock
) -> None:
    """A client that left and one that stalls are told apart."""
    writer = AsgiWriter(Sent(error), None, "GET", [])
    writer.start(Reply(200, [], Body()))
    with pytest.raises(expected):
        await writer.finish(b"", [])
    assert writer.committed


async def test_what_plain_asgi_cannot_say_is_left_out(autojump_clock: MockClock) -> None:
    """Interim replies, trailers and resets need a stream of ours."""
    sent = Sent()
    writer = AsgiWriter(sent, None, "GET", [(b"te", b"trailers")])
    await writer.interim(103, [(b"Link", b"x")])
    writer.start(Reply(200, [], Body()))
    await writer.finish(b"", [(b"X", b"1")])
    writer.abort()
    assert [message["type"] for message in sent.messages] == ["http.response.start", "http.response.body"]
    assert "trailers" not in sent.messages[1]


def test_bad_request_is_what_line_breaks_get() -> None:
    """The guard against second lines is a refusal, not a crash."""
    with pytest.raises(BadRequest):
        read_request(scope(headers=[(b"host", b"a\r\n")]), LIMITS)
