"""Heads as bytes: independent parsers read back what was meant."""

from __future__ import annotations

import h11
import httptools
import pytest

from trio_gateway.wire.serialise import last_chunk, request_head, response_head

FIELDS = [(b"Host", b"a.example"), (b"X-A", b"1"), (b"x-a", b"\xe9"), (b"Content-Length", b"0")]


def test_a_request_head_reads_back_the_same():
    """Method, target and every field, in order."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(request_head(b"PUT", b"/a%2Fb?c", FIELDS))
    event = parser.next_event()
    assert (event.method, event.target) == (b"PUT", b"/a%2Fb?c")
    assert list(event.headers) == [(name.lower(), value) for name, value in FIELDS]


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [(200, b"", b"HTTP/1.1 200 OK"), (404, b"Nope", b"HTTP/1.1 404 Nope"), (299, b"", b"HTTP/1.1 299 ")],
)
def test_the_registered_phrase_stands_in_for_a_missing_one(status, reason, line):
    """An unknown status has an empty phrase, never a missing space (RFC 9112 4)."""
    data = response_head(status, reason, [(b"A", b"b")])
    assert data == line + b"\r\nA: b\r\n\r\n"
    httptools.HttpResponseParser(object()).feed_data(data)


def test_trailers_stand_behind_the_last_chunk():
    """RFC 9112 7.1.2."""
    assert last_chunk([]) == b"0\r\n\r\n"
    assert last_chunk([(b"X", b"y")]) == b"0\r\nX: y\r\n\r\n"
