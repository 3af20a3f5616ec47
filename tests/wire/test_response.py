"""Reply heads: where a reply ends, and what is no reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.errors import BadUpstreamReply
from trio_gateway.wire.response import Framing, find_response_head, parse_response

OLD = "HTTP/1.0 200 OK"


def head(*lines: str, start: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("data", "method", "framing", "length", "keep_alive"),
    [
        (head("Content-Length: 5"), b"GET", Framing.LENGTH, 5, True),
        (head("Content-Length: 5"), b"HEAD", Framing.NONE, 5, True),
        (head("Content-Length: 0"), b"GET", Framing.NONE, 0, True),
        (head("Transfer-Encoding: chunked"), b"GET", Framing.CHUNKED, None, True),
        (head("Transfer-Encoding: chunked"), b"HEAD", Framing.NONE, None, True),
        (head(), b"GET", Framing.UNTIL_CLOSE, None, False),
        (head("Content-Length: 5", "Connection: close"), b"GET", Framing.LENGTH, 5, False),
        (head("Content-Length: 5", start=OLD), b"GET", Framing.LENGTH, 5, False),
        (
            head("Content-Length: 5", "Connection: keep-alive", start="HTTP/1.0 200 OK"),
            b"GET",
            Framing.LENGTH,
            5,
            True,
        ),
        (head("Content-Length: 5", start="HTTP/1.1 304 Not Modified"), b"GET", Framing.NONE, 5, True),
        (head("Content-Length: 5", start="HTTP/1.1 204 No Content"), b"GET", Framing.NONE, 5, True),
        (head(start="HTTP/1.1 103 Early Hints"), b"GET", Framing.NONE, None, True),
    ],
)
def test_framing_follows_method_status_and_fields(data, method, framing, length, keep_alive):
    """RFC 9112 6.3, in its order."""
    reply = parse_response(data, method)
    assert (reply.framing, reply.length, reply.keep_alive) == (framing, length, keep_alive)


def test_the_promise_of_keep_alive_is_read():
    """`Keep-Alive: timeout=` says how long an idle connection lives."""
    assert (
        parse_response(head("Keep-Alive: max=5, timeout=15", "Content-Length: 1"), b"GET").keep_alive_timeout
        == 15
    )


def test_a_reason_that_could_break_a_line_is_dropped():
    """NUL in a reason phrase never reaches the client."""
    assert parse_response(b"HTTP/1.1 200 O\0K\r\n\r\n", b"GET").reason == b""


BAD = {
    "garbage": b"garbage\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "half a status": head(start="HTTP/1.1 20"),
    "099": head(start="HTTP/1.1 099 X"),
    "600": head(start="HTTP/1.1 600 X"),
    "999": head(start="HTTP/1.1 999 X"),
    "HTTP/2.0": head(start="HTTP/2.0 200 OK"),
    "two lengths": head("Content-Length: 3", "Content-Length: 4"),
    "the same length twice": head("Content-Length: 3", "Content-Length: 3"),
    "signed length": head("Content-Length: +3"),
    "list of lengths": head("Content-Length: 3, 3"),
    "length and coding": head("Content-Length: 3", "Transfer-Encoding: chunked"),
    "gzip coding": head("Transfer-Encoding: gzip"),
    "chunked twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "coding on 1.0": head("Transfer-Encoding: chunked", start="HTTP/1.0 200 OK"),
    "folded": head("X: a", " b"),
    "bare LF": b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    "bare LF alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare LF so far": b"HTTP/1.1 200 OK\n",
    "control": head("X: a\x02"),
    "too large": head("X: " + "a" * 70_000),
    "too many fields": head(*["a: b"] * 201),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_valid_reply_is_refused(data):
    """Each of these is the upstream's fault, with a cause for the log."""
    with pytest.raises(BadUpstreamReply) as caught:
        parse_response(data[: find_response_head(data, 0)], b"GET")
    assert caught.value.cause


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_bad_reply(data):
    """Fuzz: a head or BadUpstreamReply, nothing else."""
    try:
        reply = parse_response(b"HTTP/1.1 2" + data + b"\r\n\r\n", b"GET")
    except BadUpstreamReply:
        return
    assert 100 <= reply.status <= 599
