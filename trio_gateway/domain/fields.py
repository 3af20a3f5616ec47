"""Fields as the request path sees them: raw pairs, and a table that says what becomes of each name.

A message's fields are judged one by one by their names, so the judgement must cost no more than one
look-up. `Fates` is that look-up: a dict from the name as spelled on the wire, with no lower-casing. A
spelling it has not seen goes once through a function that knows all rules, prefixes and look-alikes
included, and is remembered. The table is bounded and starts again when full, so that a client who
invents names makes nobody else slower for long.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define

from trio_gateway.config.model import HeaderChanges

RawHeaders = list[tuple[bytes, bytes]]
"""Fields in wire order, names in their original case."""

PSEUDONYM = b"trio-gateway"
"""How we name ourselves in `Via` (RFC 9110 7.6.3)."""

_CONNECTION_BOUND = frozenset(
    b"connection keep-alive te trailer trailers transfer-encoding upgrade http2-settings "
    b"content-length expect proxy".split()
)  # `Proxy` is no field of HTTP; CGI programs read it as HTTP_PROXY

_LONGEST_LEARNT = 64
_MOST_LEARNT = 512


@define
class Hop:
    """What is known of the way a request came: the client's side of one exchange.

    `peer` is the direct peer's address, b"" where it has none, `trusted` whether it may speak for others,
    `scheme` and `host` what it used (`host` is empty when it named none), `prefix` the raw path that the
    route consumed, `version` the client's protocol: `1.0`, `1.1` or `2`. `client_certificate` is what
    upstreams are told of the verified one that it showed, b"" without one. `traceparent` is the trace context
    that went on, b"" before the request did. `origin` is the scheme and authority of the client's own url
    where a trusted peer told of it, b"" elsewhere.
    """

    request_id: bytes
    peer: bytes
    trusted: bool
    scheme: bytes
    host: bytes
    prefix: bytes
    version: bytes
    client_certificate: bytes = b""
    traceparent: bytes = b""
    origin: bytes = b""


class Fate(Enum):
    """What becomes of a field that does not simply pass."""

    DROP = "drop"
    CONNECTION = "connection"
    NOTE = "note"
    TRACE = "trace"
    DATE = "date"
    URI = "uri"
    COOKIE = "cookie"


class Fates(dict[bytes, Fate | None]):
    """Fates by name as spelled; None passes. `judge` gets unknown names in lower case."""

    def __init__(self, judge: Callable[[bytes], Fate | None]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> Fate | None:
        fate = self._judge(name.lower())
        if len(name) <= _LONGEST_LEARNT:
            if len(self) >= _MOST_LEARNT:
                self.clear()
            self[name] = fate
        return fate


def bound_to_connection(name: bytes) -> bool:
    """Whether a field (lower case) belongs to one connection or to framing: a gateway makes its own.

    RFC 9110 7.6.1, and `Proxy-*`, `Expect` and the lengths, which are answered or framed anew.
    """
    return name in _CONNECTION_BOUND or name.startswith(b"proxy-")


def connection_options(value: bytes) -> frozenset[bytes]:
    """The fields that a `Connection` value nominates for removal, in lower case."""
    lower = value.lower()
    if lower in (b"close", b"keep-alive"):
        return frozenset()
    return frozenset(option.strip(b" \t") for option in lower.split(b","))


def without(headers: RawHeaders, names: frozenset[bytes]) -> RawHeaders:
    """The fields whose lower-case name is not in `names`."""
    return [field for field in headers if field[0].lower() not in names]


@define
class Changes:
    """Configured changes, compiled: `replaced` names are taken from the message, `fields` are added."""

    replaced: frozenset[bytes]
    fields: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, changes: HeaderChanges) -> Changes:
        """Compile one side's changes; the config has judged names and values already."""
        replaced = {name.lower().encode() for name in (*changes.remove, *changes.set)}
        fields = [*changes.set.items(), *changes.add.items()]
        return cls(frozenset(replaced), tuple((name.encode(), value.encode()) for name, value in fields))
