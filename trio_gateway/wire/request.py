"""Request heads (RFC 9112 2-3): found in the byte stream, parsed by llhttp, then judged by us.

llhttp is strict about syntax; what it lets pass and a gateway must not is refused here: odd versions,
Host, transfer codings, expectations. Every refusal is the error that answers it. Plain heads, as nearly
all are, take the shortcut of `wire.plain`.
"""

from __future__ import annotations

import re

import httptools
from attrs import define

from trio_gateway.config.model import Limits
from trio_gateway.errors import (
    BadRequest,
    ExpectationFailed,
    HeadTooLarge,
    MethodUnknown,
    UriTooLong,
    VersionNotSupported,
)
from trio_gateway.wire.plain import fields_of, plain_head

RawHeaders = list[tuple[bytes, bytes]]

END_OF_HEAD = b"\r\n\r\n"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_BARE_LF = "Lines of a head end with CRLF"
_LINE_SLACK = 64  # method, version and spaces beside the target
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")
_LENGTHS_OF_FRAMING = frozenset(
    map(len, (b"host", b"expect", b"connection", b"content-length", b"transfer-encoding"))
)
_plain = plain_head(
    rb"(GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS) (/[!-~]*+) HTTP/1\.1", rb"transfer-encoding|upgrade"
)
_VERSIONS = {b"1.1\r\n": b"1.1", b"1.0\r\n": b"1.0"}
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")


@define(slots=True, eq=False)
class RequestHead:
    """One request's head. `headers` keep order, case and duplicates; `host` is the field's value.

    `length` is the body's Content-Length, None when there is none; `chunked` tells the other framing.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: RawHeaders
    upgrade: bool
    keep_alive: bool
    host: bytes = b""
    length: int | None = None
    chunked: bool = False
    expects_continue: bool = False

    @property
    def has_body(self) -> bool:
        """A body follows, though it may be empty when chunked."""
        return self.chunked or bool(self.length)


class _Collector:
    """Takes llhttp's callbacks for one head. Those that are not needed are None: looking them up is dear."""

    __slots__ = ("headers", "target")

    on_message_begin = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = on_status = None

    def __init__(self) -> None:
        self.target = b""
        self.headers: RawHeaders = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def find_head(data: bytes | bytearray, searched: int, limits: Limits) -> int:
    """The offset behind the head's empty line, or -1 while more bytes are needed.

    `searched` bytes were looked at before. Raises the same error however the bytes were cut:
    `UriTooLong`, `HeadTooLarge`, or `BadRequest` for what can't become a head.
    """
    end = data.find(END_OF_HEAD, max(0, searched - 3))
    if end < 0 or end > limits.target:
        _check_line(data, limits)
    if (len(data) if end < 0 else end) > limits.head:
        raise HeadTooLarge
    if end < 0 and data.count(b"\n", searched) != data.count(b"\r\n", max(0, searched - 1)):
        raise BadRequest(_BARE_LF)
    return end + 4 if end >= 0 else -1


def _check_line(data: bytes | bytearray, limits: Limits) -> None:
    """Refuse what is no request line as soon as it shows."""
    end = data.find(b"\r\n")
    if (len(data) if end < 0 else end) > limits.target + _LINE_SLACK:
        raise UriTooLong
    if not _TOKEN.match(data) and data[:1] not in (b"", b"\r"):
        raise BadRequest("Malformed request line")


def parse_request(head: bytes, limits: Limits) -> RequestHead:
    """Parse one whole head, its empty line included. Raises the error that answers a bad one."""
    found = _plain(head)
    if found is None:
        request = parse_by_llhttp(head)
    else:
        method, target, fields = found.groups()
        request = RequestHead(method, target, b"1.1", fields_of(fields), False, True)
    if len(request.target) > limits.target:
        raise UriTooLong
    if len(request.headers) > limits.fields:
        raise HeadTooLarge("Too many header fields")
    _read_fields(request)
    return request


def parse_by_llhttp(head: bytes) -> RequestHead:
    """Parse a head of any shape, its fields not yet read."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    upgrade = False
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        upgrade = True
    except httptools.HttpParserError as error:
        raise _refusal(head, str(error)) from None
    method, target = parser.get_method(), collector.target
    line = b"%b %b HTTP/1." % (method, target)
    version = _VERSIONS.get(head[len(line) - 2 : len(line) + 3])
    if version is None or not head.startswith(line):  # HTTP/2.0, more than one space, RTSP and its like
        raise _wrong_version(head)
    headers = stripped(collector.headers) if trailing_space(head) else collector.headers
    return RequestHead(method, target, version, headers, upgrade, version == b"1.1")


def trailing_space(head: bytes) -> bool:
    """Whether a line may end in white space, which llhttp leaves on values."""
    return b" \r\n" in head or b"\t\r\n" in head


def stripped(headers: RawHeaders) -> RawHeaders:
    """The fields without white space behind their values (RFC 9112 5.1)."""
    return [(name, value.rstrip(b" \t")) for name, value in headers]


def _read_fields(request: RequestHead) -> None:
    """Read the fields that frame and address the message; each is looked at once."""
    hosts = 0
    met = True
    for name, value in request.headers:
        length = len(name)
        if length not in _LENGTHS_OF_FRAMING:
            continue
        if length == 4 and name.lower() == b"host":
            hosts += 1
            request.host = value
        elif length == 6 and name.lower() == b"expect":
            met = met and value.lower() == b"100-continue"
            request.expects_continue = request.version == b"1.1"
        elif length == 10 and name.lower() == b"connection":
            _read_connection(request, value)
        elif length == 14 and name.lower() == b"content-length":
            if request.length is not None:
                raise BadRequest("Two Content-Length fields")
            request.length = _content_length(value)
        elif length == 17 and name.lower() == b"transfer-encoding":
            _read_codings(request, value)
    if hosts > 1 or (not hosts and request.version == b"1.1"):
        raise BadRequest("One Host field is needed")
    if not _HOST.fullmatch(request.host):
        raise BadRequest("Malformed Host")
    if not met:  # said last: of a request that is malformed nobody knows what it expects
        raise ExpectationFailed


def _read_connection(request: RequestHead, value: bytes) -> None:
    options = [option.strip() for option in value.lower().split(b",")]
    if b"close" in options:
        request.keep_alive = False
    elif b"keep-alive" in options and request.version == b"1.0":
        request.keep_alive = True


def _content_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise BadRequest("Malformed Content-Length")
    return int(value)


def _read_codings(request: RequestHead, value: bytes) -> None:
    if request.version == b"1.0":
        raise BadRequest("HTTP/1.0 has no transfer codings")
    if value.lower() != b"chunked":
        raise _coding_refusal(value)
    request.chunked = True


def _coding_refusal(value: bytes) -> BadRequest | MethodUnknown:
    """501 for codings that may exist, 400 for what can't be one (RFC 9112 6.1, 7)."""
    codings = [coding.strip().lower() for coding in value.split(b",")]
    known = all(_TOKEN.fullmatch(coding) for coding in codings)
    if not known or b"identity" in codings or codings.count(b"chunked") > 1 or codings == [b"chunked"]:
        return BadRequest("Malformed Transfer-Encoding")
    return MethodUnknown("Transfer coding not implemented")


def _refusal(head: bytes, reason: str) -> BadRequest | MethodUnknown | VersionNotSupported:
    """What llhttp refused: an unknown method, a transfer coding, or plain malformed syntax."""
    if head.count(b"\n") != head.count(b"\r\n"):  # what `find_head` says of it while it comes in pieces
        return BadRequest(_BARE_LF)
    line = head.split(b"\r\n", 1)[0].split(b" ")
    if "Transfer-Encoding" in reason and "Content-Length" not in reason:
        return _coding_refusal(_transfer_encodings(head))
    if "version" in reason:
        return _wrong_version(head)
    well_formed = len(line) == 3 and _TOKEN.fullmatch(line[0]) and line[0].isupper()
    if "method" in reason and well_formed and _VERSION.fullmatch(line[2]):
        return MethodUnknown("Method not implemented")
    return BadRequest(f"Malformed request: {reason}")


def _transfer_encodings(head: bytes) -> bytes:
    found = re.findall(rb"(?im)^transfer-encoding:[ \t]*([^\r\n]*)", head)
    return b",".join(value.rstrip(b" \t") for value in found)


def _wrong_version(head: bytes) -> BadRequest | VersionNotSupported:
    line, _, version = head.split(b"\r\n", 1)[0].rpartition(b" ")
    if line.count(b" ") == 1 and version not in (b"HTTP/1.0", b"HTTP/1.1") and _VERSION.fullmatch(version):
        return VersionNotSupported()
    return BadRequest("Malformed request line")
