"""Message bodies (RFC 9112 6-7): decoders that are fed bytes and know where a body ends.

A decoder's `feed` returns the payload in what it was given. When `done` is set, `leftover` holds what
came behind the body and belongs to somebody else.
"""

from __future__ import annotations

import re
from typing import Protocol

from trio_gateway.wire.request import RawHeaders
from trio_gateway.wire.response import Framing, ResponseHead

_MAX_LINE = 1024
_MAX_TRAILERS = 8 * 1024
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t \x21-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t \x21-\x7e\x80-\xff]*)")


class MalformedBody(Exception):
    """The body's framing is broken: the message and its connection can't be saved."""


class BodyDecoder(Protocol):
    """What reads one message body out of a byte stream."""

    done: bool
    leftover: bytes
    trailers: RawHeaders

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`; raises `MalformedBody`."""
        ...

    def end(self) -> bool:
        """The stream ended: whether that completes the body."""
        ...


class LengthDecoder:
    """A body of `length` bytes; 0 is done at once."""

    __slots__ = ("done", "leftover", "remaining", "trailers")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.leftover = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """All of `data` that belongs to the body."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data
        remaining, self.remaining = self.remaining, 0
        self.done = True
        if size == remaining:
            return data
        self.leftover = data[remaining:]
        return data[:remaining]

    def end(self) -> bool:
        """The end of the stream completes only what is complete."""
        return self.done


class UntilCloseDecoder:
    """A body that ends with its connection: replies without other framing."""

    __slots__ = ("done", "leftover", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.leftover = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """Everything is body."""
        return data

    def end(self) -> bool:
        """The end of the stream is the end of the body."""
        self.done = True
        return True


class ChunkedDecoder:
    """The chunked coding (RFC 9112 7.1). Extensions are dropped; trailers are kept apart."""

    __slots__ = ("_buffer", "_in_chunk", "_trailer_bytes", "done", "leftover", "trailers")

    def __init__(self) -> None:
        self._buffer = b""
        self._in_chunk = 0  # bytes of the chunk still to come, its CRLF included
        self._trailer_bytes = -1  # -1: not yet in the trailer section
        self.done = False
        self.leftover = b""
        self.trailers: RawHeaders = []

    def feed(self, data: bytes) -> bytes:
        """The payload of all whole and part chunks in `data`; raises `MalformedBody`."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._in_chunk:
                at = self._take_chunk(data, at, pieces)
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._keep_line(data[at:])
                    break
                self._take_line(data[at:end])
                at = end + 2
        if self.done:
            self.leftover = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        payload = self._in_chunk - 2
        available = len(data) - at
        if payload > 0:
            piece = data[at : at + payload]
            pieces.append(piece)
            self._in_chunk -= len(piece)
            return at + len(piece)
        ending = data[at : at + self._in_chunk]
        if ending != b"\r\n"[-self._in_chunk :][: len(ending)]:
            raise MalformedBody("a chunk doesn't end with CRLF")
        self._in_chunk -= min(available, self._in_chunk)
        return at + len(ending)

    def _keep_line(self, line: bytes) -> None:
        if len(line) > _MAX_LINE or b"\n" in line or b"\r" in line[:-1]:
            raise MalformedBody("a line of the chunked coding is too long or malformed")
        self._buffer = line

    def _take_line(self, line: bytes) -> None:
        if self._trailer_bytes >= 0:
            self._take_trailer(line)
            return
        found = _SIZE_LINE.fullmatch(line) if len(line) <= _MAX_LINE else None
        if found is None:
            raise MalformedBody("malformed chunk size")
        size = int(found[1], 16)
        if size:
            self._in_chunk = size + 2
        else:
            self._trailer_bytes = 0

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailer_bytes += len(line)
        found = _TRAILER.fullmatch(line)
        if found is None or self._trailer_bytes > _MAX_TRAILERS:
            raise MalformedBody("malformed trailer section")
        self.trailers.append((found[1], found[2].rstrip(b" \t")))

    def end(self) -> bool:
        """The end of the stream before the last chunk is a truncation."""
        return self.done


def decoder_of(head: ResponseHead) -> BodyDecoder | None:
    """What reads the body behind a reply's head; None where none follows."""
    if head.framing is Framing.LENGTH:
        return LengthDecoder(head.length or 0)
    if head.framing is Framing.CHUNKED:
        return ChunkedDecoder()
    return UntilCloseDecoder() if head.framing is Framing.UNTIL_CLOSE else None
