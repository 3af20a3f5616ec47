"""Response heads of upstreams (RFC 9112 4, 6.3): parsed by llhttp or, plain ones, by `wire.plain`'s
shortcut, and judged by us.

The one thing that must never go wrong is where a reply ends: `framing` says it, for the request's
method, the status and the fields together.
"""

from __future__ import annotations

import re
from enum import Enum

import httptools
from attrs import define

from trio_gateway.errors import BadUpstreamReply
from trio_gateway.wire.plain import fields_of, plain_head
from trio_gateway.wire.request import END_OF_HEAD, RawHeaders, stripped, trailing_space

MAX_HEAD = 64 * 1024
MAX_FIELDS = 200

_LENGTHS_OF_FRAMING = frozenset(
    map(len, (b"connection", b"keep-alive", b"content-length", b"transfer-encoding"))
)
_plain = plain_head(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\t -~\x80-\xff]*+)", rb"upgrade")
_VERSIONS = {b"HTTP/1.1 ": b"1.1", b"HTTP/1.0 ": b"1.0"}
_REASON = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")
_KEEP_ALIVE = re.compile(rb"(?i)(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})")


class Framing(Enum):
    """How the end of a reply's body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until_close"


@define(slots=True, eq=False)
class ResponseHead:
    """One reply's head. `length` is Content-Length as sent (also where no body follows, as for HEAD).

    `keep_alive` tells whether the connection may serve again after this reply; `keep_alive_timeout`
    are the seconds that the upstream promised to keep it.
    """

    status: int
    reason: bytes
    version: bytes
    headers: RawHeaders
    framing: Framing = Framing.UNTIL_CLOSE
    length: int | None = None
    keep_alive: bool = True
    keep_alive_timeout: float | None = None


class _Collector:
    __slots__ = ("headers", "reason")

    on_message_begin = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = on_url = None

    def __init__(self) -> None:
        self.reason = b""
        self.headers: RawHeaders = []

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def find_response_head(data: bytes | bytearray, searched: int) -> int:
    """The offset behind the head's empty line, or -1 while more is needed. Raises `BadUpstreamReply`."""
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise BadUpstreamReply(cause="no HTTP/1.x status line")
    end = data.find(END_OF_HEAD, max(0, searched - 3))
    if (len(data) if end < 0 else end) > MAX_HEAD:
        raise BadUpstreamReply(cause="reply head too large")
    if end < 0 and data.count(b"\n", searched) != data.count(b"\r\n", max(0, searched - 1)):
        raise BadUpstreamReply(cause="a line of the reply's head ends without CR")
    return end + 4 if end >= 0 else -1


def parse_response(head: bytes, method: bytes) -> ResponseHead:
    """Parse one whole head, its empty line included. Raises `BadUpstreamReply`."""
    found = _plain(head)
    if found is None:
        reply = parse_by_llhttp(head)
    else:
        status, reason, fields = found.groups()
        reply = ResponseHead(int(status), reason, b"1.1", fields_of(fields))
    if len(reply.headers) > MAX_FIELDS:
        raise BadUpstreamReply(cause="too many reply fields")
    _read_fields(reply, method)
    return reply


def parse_by_llhttp(head: bytes) -> ResponseHead:
    """Parse a head of any shape, its fields not yet read."""
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101 with an Upgrade field: the caller judges the status
    except httptools.HttpParserError as error:
        raise BadUpstreamReply(cause=f"malformed reply: {error}") from None
    version = _VERSIONS.get(head[:9])
    status: int = parser.get_status_code()
    if version is None or not 100 <= status <= 599:
        raise BadUpstreamReply(cause=f"version or status not understood: {head[:12]!r}")
    headers = stripped(collector.headers) if trailing_space(head) else collector.headers
    reason = collector.reason if _REASON.fullmatch(collector.reason) else b""
    return ResponseHead(status, reason, version, headers)


def _read_fields(reply: ResponseHead, method: bytes) -> None:
    chunked = False
    closes = reply.version == b"1.0"
    for name, value in reply.headers:
        length = len(name)
        if length not in _LENGTHS_OF_FRAMING:
            continue
        if length == 14 and name.lower() == b"content-length":
            if reply.length is not None:
                raise BadUpstreamReply(cause="two lengths")
            reply.length = _content_length(value)
        elif length == 10:
            lower = name.lower()
            if lower == b"connection":
                closes = _closes(value, closes)
            elif lower == b"keep-alive" and (found := _KEEP_ALIVE.search(value)):
                reply.keep_alive_timeout = float(found[1])
        elif length == 17 and name.lower() == b"transfer-encoding":
            if value.lower() != b"chunked" or chunked or reply.version == b"1.0":
                raise BadUpstreamReply(cause="transfer coding not understood")
            chunked = True
    if chunked and reply.length is not None:
        raise BadUpstreamReply(cause="a length and a transfer coding")
    _frame(reply, method, chunked)
    reply.keep_alive = not closes and reply.framing is not Framing.UNTIL_CLOSE


def _content_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise BadUpstreamReply(cause="malformed Content-Length")
    return int(value)


def _closes(value: bytes, closes: bool) -> bool:
    if value == b"keep-alive":  # as most say
        return False
    tokens = [token.strip() for token in value.lower().split(b",")]
    if b"close" in tokens:
        return True
    return closes and b"keep-alive" not in tokens


def _frame(reply: ResponseHead, method: bytes, chunked: bool) -> None:
    """RFC 9112 6.3, in its order."""
    status = reply.status
    if method == b"HEAD" or status in (204, 304) or status < 200:
        reply.framing = Framing.NONE
    elif chunked:
        reply.framing = Framing.CHUNKED
    elif reply.length is not None:
        reply.framing = Framing.LENGTH if reply.length else Framing.NONE
