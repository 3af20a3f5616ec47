"""Request heads: what is a request, and what each bad one gets."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.model import Limits
from trio_gateway.errors import GatewayError
from trio_gateway.wire.request import find_head, parse_request

LIMITS = Limits()


def parse_segmented(data: bytes, size: int):
    """Feed `data` in pieces of `size`, as a connection would; the parsed head or the error's status."""
    buffer, searched = b"", 0
    try:
        for at in range(0, len(data), size):
            buffer += data[at : at + size]
            end = find_head(buffer, searched, LIMITS)
            if end >= 0:
                return parse_request(buffer[:end], LIMITS)
            searched = len(buffer)
    except GatewayError as error:
        return error.status
    return None


def head(*lines: str, start: str = "GET /x HTTP/1.1") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


def test_a_head_keeps_order_case_duplicates_and_obs_text():
    """What the client wrote is what we hold, but for white space around values."""
    request = parse_segmented(
        head("Host: a.example", "B: 1 ", "b:\t2", "X: \xe9", start="GET /x?q=%2F HTTP/1.1"), 9999
    )
    assert request.method == b"GET"
    assert request.target == b"/x?q=%2F"
    assert request.headers == [(b"Host", b"a.example"), (b"B", b"1"), (b"b", b"2"), (b"X", b"\xe9")]
    assert request.host == b"a.example"
    assert request.keep_alive
    assert not request.has_body


@pytest.mark.parametrize(
    ("lines", "start", "expected"),
    [
        (["Host: a"], "GET / HTTP/1.1", (None, False, True)),
        (["Host: a", "Content-Length: 0"], "POST / HTTP/1.1", (0, False, True)),
        (["Host: a", "Content-Length: 12"], "POST / HTTP/1.1", (12, False, True)),
        (["Host: a", "Transfer-Encoding: Chunked"], "POST / HTTP/1.1", (None, True, True)),
        (["Host: a", "Connection: close"], "GET / HTTP/1.1", (None, False, False)),
        ([], "GET / HTTP/1.0", (None, False, False)),
        (["Connection: keep-alive"], "GET / HTTP/1.0", (None, False, True)),
    ],
)
def test_framing_and_persistence_are_read_from_the_head(lines, start, expected):
    """Length, coding and keep-alive follow RFC 9112 6 and 9.3."""
    request = parse_segmented(head(*lines, start=start), 9999)
    assert (request.length, request.chunked, request.keep_alive) == expected


BAD = {
    "CL and TE": (head("Host: a", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
    "TE and CL": (head("Host: a", "Transfer-Encoding: chunked", "Content-Length: 3"), 400),
    **{
        f"CL {value!r}": (head("Host: a", f"Content-Length: {value}", start="POST / HTTP/1.1"), 400)
        for value in ("+3", "-3", "0x3", "1_0", "", "1" * 23, "3, 3", "\u00b2")
    },
    "two CL": (head("Host: a", "Content-Length: 3", "Content-Length: 4"), 400),
    "TE identity": (head("Host: a", "Transfer-Encoding: identity"), 400),
    "TE twice": (head("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    "TE chunked, chunked": (head("Host: a", "Transfer-Encoding: chunked, chunked"), 400),
    "TE \\x0bchunked": (head("Host: a", "Transfer-Encoding: \x0bchunked"), 400),
    "TE with a space before the colon": (head("Host: a", "Transfer-Encoding : chunked"), 400),
    "TE folded": (head("Host: a", "Transfer-Encoding:", " chunked"), 400),
    "TE with a tab behind it": (head("Host: a", "Transfer-Encoding: chunked\t"), 400),
    "TE empty": (head("Host: a", "Transfer-Encoding: "), 400),
    "TE on HTTP/1.0": (head("Host: a", "Transfer-Encoding: chunked", start="POST / HTTP/1.0"), 400),
    "TE gzip, chunked": (head("Host: a", "Transfer-Encoding: gzip, chunked"), 501),
    "TE xchunked": (head("Host: a", "Transfer-Encoding: xchunked"), 501),
    "obs-fold": (head("Host: a", "X: a", " b"), 400),
    "NUL": (head("Host: a", "X: a\0b"), 400),
    "bare CR": (head("Host: a", "X: a\rb"), 400),
    "control": (head("Host: a", "X: a\x01b"), 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF behind an unknown coding": (head("Host: a", "Transfer-Encoding: x\r \nX: a"), 400),
    "bare LF behind an unknown method": (head("Host: a", "X: a\r \nX: a", start="FOO / HTTP/1.1"), 400),
    "no Host": (head(), 400),
    "two Hosts": (head("Host: a", "Host: a"), 400),
    "Host with a path": (head("Host: a/b"), 400),
    "Host with userinfo": (head("Host: u@a"), 400),
    "HTTP/2.0": (head("Host: a", start="GET / HTTP/2.0"), 505),
    "HTTP/9.9": (head("Host: a", start="GET / HTTP/9.9"), 505),
    "HTTP/1.2": (head("Host: a", start="GET / HTTP/1.2"), 505),
    "PRI": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "RTSP": (b"DESCRIBE / RTSP/1.0\r\n\r\n", 400),
    "another protocol": (head("Host: a", start="GET / ICE/1.0"), 400),
    "unknown method": (head("Host: a", start="FOO / HTTP/1.1"), 501),
    "lower-case method": (head("Host: a", start="get / HTTP/1.1"), 400),
    "malformed method": (head("Host: a", start="G@T / HTTP/1.1"), 400),
    "two spaces": (head("Host: a", start="GET  / HTTP/1.1"), 400),
    "space in the target": (head("Host: a", start="GET /a b HTTP/1.1"), 400),
    "no slash": (head("Host: a", start="GET a HTTP/1.1"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "expectation and length": (head("Host: a", "Expect: miracles", "Content-Length: +1"), 400),
    "expectation": (head("Host: a", "Expect: miracles"), 417),
    "long target": (head("Host: a", start=f"GET /{'a' * 20_000} HTTP/1.1"), 414),
    "target beyond the limit": (head("Host: a", start=f"GET /{'a' * 8 * 1024} HTTP/1.1"), 414),
    "40 KB head": (head("Host: a", "X: " + "a" * 40_000), 431),
    "1000 fields": (head("Host: a", *["a: b"] * 1000), 431),
}


@pytest.mark.parametrize("size", [1, 7, 99_999])
@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD)
def test_a_bad_head_gets_the_same_answer_however_it_is_cut(data, status, size):
    """Ambiguous or malformed heads are refused with one status, whole or byte by byte."""
    assert parse_segmented(data, size) == status


def test_empty_lines_in_front_are_the_callers_business():
    """A head that begins with CRLF is not yet malformed (RFC 9112 2.2)."""
    assert find_head(b"\r\n", 0, LIMITS) == -1


TOKENS = st.text(alphabet="abcXYZ-_09", min_size=1, max_size=8)
VALUES = st.text(alphabet="ab cd,;=\"'\xe9", max_size=12)


@given(st.lists(st.tuples(TOKENS, VALUES), max_size=5), st.integers(1, 60))
def test_an_independent_parser_reads_the_same_head(fields, size):
    """h11 agrees on every head that we accept."""
    names = {name.lower() for name, _ in fields}
    if names & {"host", "expect", "connection", "upgrade"}:
        return
    data = head("Host: a", *[f"{name}: {value}" for name, value in fields])
    ours = parse_segmented(data, size)
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(data)
    event = theirs.next_event()
    assert isinstance(event, h11.Request)
    assert ours.target == event.target
    assert [(name.lower(), value) for name, value in ours.headers] == list(event.headers)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_answer(data):
    """Garbage gets a status or a wait for more, never another exception."""
    outcome = parse_segmented(data + b"\r\n\r\n", 50)
    assert outcome is None or isinstance(outcome, int) or outcome.target
