"""Three parsers that share no code read what was sent upstream, and must read the same request in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import httptools
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from attrs import frozen

Fields = list[tuple[bytes, bytes]]


@frozen
class Reading:
    """One request as a parser reads it."""

    method: bytes
    target: bytes
    headers: Fields
    body: bytes


def agreed(raw: bytes) -> Reading:
    """The one request in `raw`; AssertionError where two parsers differ, or find more or less than one."""
    first, *others = by_h11(raw), by_httptools(raw), by_aiohttp(raw)
    for other in others:
        assert other == first
    return first


def by_h11(raw: bytes) -> Reading:
    """The pure-Python parser's reading."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
    parser.receive_data(raw)
    request = parser.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert parser.trailing_data[0] == b""
    return Reading(request.method, request.target, list(request.headers.raw_items()), body)


class _Messages:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.target = self.body = b""
        self.headers: Fields = []
        self.begun = self.complete = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_headers_complete(self) -> None:
        self.head = list(self.headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def by_httptools(raw: bytes) -> Reading:
    """Node's parser's reading."""
    found = _Messages()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(raw)
    assert (found.begun, found.complete) == (1, 1)
    return Reading(parser.get_method(), found.target, found.head, found.body)


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def by_aiohttp(raw: bytes) -> Reading:
    """aiohttp's parser's reading."""
    with _loop() as loop:
        limits = {"max_line_size": 256 * 1024, "max_field_size": 256 * 1024}
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**20, auto_decompress=False, **limits)
        messages, upgraded, rest = parser.feed_data(raw)
        assert not upgraded
        assert not rest
        ((message, payload),) = messages
        assert payload.is_eof()
        body = b"".join(getattr(payload, "_buffer", ()))
        return Reading(message.method.encode(), message.path.encode(), list(message.raw_headers), body)
