"""The shortcut for plain heads against llhttp: never a different answer, and taken where it matters."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gateway.config.model import Limits
from trio_gateway.errors import GatewayError
from trio_gateway.wire import request, response

LIMITS = Limits()
REQUEST = b"GET /users/42?full=1 HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nX-Empty:\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"


def outcome(parse: Callable[..., Any], *arguments: object) -> object:
    """What a parser made of a head: its parts, or the error that answers it."""
    try:
        return attrs.asdict(parse(*arguments))
    except GatewayError as error:
        return type(error), error.status


def both_requests(head: bytes) -> tuple[object, object]:
    """The request as the gateway reads it, and with the shortcut closed."""
    quick = outcome(request.parse_request, head, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "_plain", lambda _: None)
        return quick, outcome(request.parse_request, head, LIMITS)


def both_replies(head: bytes, method: bytes) -> tuple[object, object]:
    """The reply as the gateway reads it, and with the shortcut closed."""
    quick = outcome(response.parse_response, head, method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response, "_plain", lambda _: None)
        return quick, outcome(response.parse_response, head, method)


NAMES = st.sampled_from(
    b"Host host Connection Content-Length content-length CONTENT-LENGTH Transfer-Encoding Upgrade Expect "
    b"Keep-Alive Accept X-A Proxy-Connection x_y a-b!#$%&'*+.^`|~0 X(Y X[Y".split()
) | st.binary(max_size=4)
VALUES = st.sampled_from(
    [b"a", b"", b"5", b"05", b"+5", b"5, 5", b"5 ", b"chunked", b"gzip, chunked", b"close", b"keep-alive",
     b"upgrade", b"websocket", b"100-continue", b"timeout=5", b"a b\tc", b"\x80\xff", b"a\x7f", b"a\0b",
     b"a\rb", b"a\nb", b"99999999999999999999"]
) | st.binary(max_size=6)  # fmt: skip
SPACES = st.sampled_from([b" ", b"", b"  ", b"\t", b" \t "])
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b" \r\n", b"\r\n "])
FIELDS = st.lists(
    st.tuples(NAMES, st.sampled_from([b":"] * 8 + [b" :", b""]), SPACES, VALUES, ENDS).map(b"".join),
    max_size=5,
)
TARGETS = st.sampled_from(
    [b"/", b"/a?b", b"/a#b", b"/#?#", b"*", b"a", b"http://a/", b"/\x7f", b"/\x80", b"//", b'/|"<>\\^`{}']
) | st.binary(max_size=5)
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"get", b"GETX", b"CONNECT", b"TRACE", b""])
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b""])
REQUESTS = st.tuples(METHODS, TARGETS, VERSIONS).map(b" ".join)
STATUS_LINES = st.tuples(
    VERSIONS,
    st.sampled_from(b"200 204 304 404 100 101 103 599 600 099 20 2000".split()),
    st.sampled_from([b"OK", b"", b"Not  Found", b"\x80", b"O\0K", b"O\tK", b" x ", b"\x7f"]),
).map(b" ".join)  # fmt: skip


def head_of(line: bytes, end: bytes, fields: list[bytes]) -> bytes:
    """One head: what is behind its empty line is cut, as the lane does."""
    head = line + end + b"".join(fields) + b"\r\n"
    cut = head.find(b"\r\n\r\n")
    return head[: cut + 4] if cut >= 0 else head


@settings(deadline=None, max_examples=300)
@given(REQUESTS, st.sampled_from([b"\r\n"] * 5 + [b"\n"]), FIELDS, st.booleans())
def test_no_request_is_read_otherwise(line: bytes, end: bytes, fields: list[bytes], with_host: bool) -> None:
    """Whatever its start line and fields: the same parts, or the same refusal."""
    quick, thorough = both_requests(head_of(line, end, [b"Host: a\r\n"] * with_host + fields))
    assert quick == thorough


@settings(deadline=None, max_examples=300)
@given(STATUS_LINES, st.sampled_from([b"\r\n"] * 5 + [b"\n"]), FIELDS, st.sampled_from([b"GET", b"HEAD"]))
def test_no_reply_is_read_otherwise(line: bytes, end: bytes, fields: list[bytes], method: bytes) -> None:
    """Whatever its status line and fields: the same parts and the same framing, or the same refusal."""
    quick, thorough = both_replies(head_of(line, end, fields), method)
    assert quick == thorough


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(REQUEST) - 5), st.integers(0, 255), st.integers(0, 2))
def test_no_octet_in_a_request_makes_a_difference(at: int, octet: int, removed: int) -> None:
    """Any one put in, or in the place of one or two."""
    quick, thorough = both_requests(
        head_of(b"", b"", [REQUEST[:at] + bytes([octet]) + REQUEST[at + removed :]])
    )
    assert quick == thorough


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(REPLY) - 5), st.integers(0, 255), st.integers(0, 2))
def test_no_octet_in_a_reply_makes_a_difference(at: int, octet: int, removed: int) -> None:
    """Any one put in, or in the place of one or two."""
    quick, thorough = both_replies(
        head_of(b"", b"", [REPLY[:at] + bytes([octet]) + REPLY[at + removed :]]), b"GET"
    )
    assert quick == thorough


def test_ordinary_heads_take_the_shortcut() -> None:
    """Else it would be correct and useless."""
    assert request._plain(REQUEST) is not None
    assert response._plain(REPLY) is not None


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a", b"a ", b"X:", b"X: \r\n", b"X:a\r\n"])
def test_the_time_is_linear(filler: bytes) -> None:
    """A head of 64 KiB that fits nearly to its end costs milliseconds."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX:" + filler * (65_536 // len(filler)) + b"\0\r\n\r\n"
    began = perf_counter()
    assert request._plain(head) is None
    assert perf_counter() - began < 0.5
