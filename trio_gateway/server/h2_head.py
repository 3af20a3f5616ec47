"""Field sections of HTTP/2 requests, judged by RFC 9113 8.2 and 8.3 and put into HTTP/1.1's order.

h2 would end the whole connection for a malformed section, so its checks are off and these stand in: the
stream alone is reset. What is well-formed but wrong (two different hosts, a strange target, a length
that is none) passes on, to be judged by the very code that judges HTTP/1.1 heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from trio_gateway.wire.request import RawHeaders

_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_CONNECTION_BOUND = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_value = re.compile(rb"(?![ \t])[\t \x21-\x7e\x80-\xff]*(?<![ \t])").fullmatch


class MalformedFields(Exception):
    """The section breaks HTTP/2's own rules: a stream error of type PROTOCOL_ERROR."""


@frozen
class H2Head:
    """A request's fields. `headers` begin with Host where the client named one; `path` may be empty."""

    method: bytes
    path: bytes
    headers: RawHeaders


def read_head(fields: Iterable[tuple[bytes, bytes]]) -> H2Head:
    """One request's section. Raises MalformedFields.

    Cookie crumbs are joined (RFC 9113 8.2.3). When `:authority` and Host differ both stand in `headers`.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: RawHeaders = []
    crumbs: list[bytes] = []
    for name, value in fields:
        if name[:1] == b":":
            if headers or crumbs or name in pseudo or name not in _PSEUDO or not _is_value(value):
                raise MalformedFields(f"pseudo-header field {name!r}")
            pseudo[name] = value
            continue
        _check_field(name, value)
        if name == b"cookie":
            crumbs.append(value)
        else:
            headers.append((name, value))
    if crumbs:
        headers.append((b"cookie", b"; ".join(crumbs)))
    return _assembled(pseudo, headers)


def read_trailers(fields: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """A trailer section. Raises MalformedFields."""
    trailers = [(name, value) for name, value in fields]
    for name, value in trailers:
        _check_field(name, value)
    return trailers


def _check_field(name: bytes, value: bytes) -> None:
    if not _is_name(name) or not _is_value(value) or name in _CONNECTION_BOUND:
        raise MalformedFields(f"field {name!r}")
    if name == b"te" and value.lower() != b"trailers":
        raise MalformedFields("TE can only be trailers")


def _assembled(pseudo: dict[bytes, bytes], headers: RawHeaders) -> H2Head:
    method = pseudo.get(b":method")
    if not method:
        raise MalformedFields("no :method")
    if method != b"CONNECT" and (
        pseudo.get(b":scheme") not in (b"http", b"https") or not pseudo.get(b":path")
    ):
        raise MalformedFields("no usable :scheme or :path")
    authority = pseudo.get(b":authority")
    if authority is not None:
        hosts = [field for field in headers if field[0] == b"host"]
        if any(value.lower() != authority.lower() for _, value in hosts):
            return H2Head(method, pseudo.get(b":path", b""), [(b"host", authority), *headers])
        headers = [field for field in headers if field[0] != b"host"] if len(hosts) == 1 else headers
        headers.insert(0, (b"host", authority))
    return H2Head(method, pseudo.get(b":path", b""), headers)
