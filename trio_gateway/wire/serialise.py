"""Heads and chunks as bytes. The caller has settled every field; nothing is judged here."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from trio_gateway.wire.request import RawHeaders

LAST_CHUNK = b"0\r\n\r\n"

_line = b": ".join


def request_head(method: bytes, target: bytes, headers: RawHeaders) -> bytes:
    """A request's head in HTTP/1.1."""
    return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method, target, b"\r\n".join(map(_line, headers)))


def response_head(status: int, reason: bytes, headers: RawHeaders) -> bytes:
    """A reply's head in HTTP/1.1; the registered phrase stands in for an empty reason."""
    line = b"HTTP/1.1 %d %b" % (status, reason) if reason else _status_line(status)
    if not headers:
        return line + b"\r\n\r\n"
    return b"%b\r\n%b\r\n\r\n" % (line, b"\r\n".join(map(_line, headers)))


@lru_cache(maxsize=512)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b" % (status, phrase.encode())


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding. An empty one would end the body, so `data` must hold bytes."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: RawHeaders) -> bytes:
    """The end of a chunked body with its trailer section (RFC 9112 7.1.2)."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(map(_line, trailers))
