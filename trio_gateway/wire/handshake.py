"""The WebSocket opening handshake (RFC 6455 4), judged from both sides; nothing of it is changed.

What a client asks for is read before anything is sent upstream, and what the upstream answers is held
against it before the client learns of it: a connection that one side only believes to be a WebSocket is
how requests are smuggled.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1

from attrs import frozen

from trio_gateway.errors import BadRequest, BadUpstreamReply, UpgradeRequired
from trio_gateway.wire.request import RawHeaders, RequestHead
from trio_gateway.wire.response import ResponseHead

UPGRADE: RawHeaders = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
"""The fields that each hop says for itself."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 octets in base64
_ELEMENT = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^",])+')  # of a list whose parameters may be quoted
_SUBPROTOCOL = b"sec-websocket-protocol"
_VERSION = ((b"Sec-WebSocket-Version", b"13"), *UPGRADE)


@frozen
class Offer:
    """What a client's handshake asks for: one of these subprotocols, any of these extensions."""

    key: bytes
    subprotocols: frozenset[bytes]
    extensions: frozenset[bytes]


def asks_for_websocket(request: RequestHead) -> bool:
    """Whether a request is a WebSocket handshake; HTTP/1.0 has no upgrades (RFC 9110 7.8)."""
    return (
        request.upgrade
        and request.version == b"1.1"
        and b"websocket" in (token.lower() for token in _elements(request.headers, b"upgrade"))
    )


def read_offer(request: RequestHead) -> Offer:
    """What the handshake offers. Raises BadRequest, or UpgradeRequired for another version."""
    headers = request.headers
    if request.method != b"GET" or request.has_body:
        raise BadRequest("A WebSocket handshake is a GET without a body")
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        raise UpgradeRequired(headers=_VERSION)
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("A WebSocket handshake has one Sec-WebSocket-Key of 16 octets in base64")
    return Offer(keys[0], frozenset(_elements(headers, _SUBPROTOCOL)), _names(headers))


def accepted(head: ResponseHead, offer: Offer) -> frozenset[bytes]:
    """The extensions that a 101 agrees on. Raises BadUpstreamReply for one that does not fit the offer."""
    headers = head.headers
    options = {option.lower() for option in _elements(headers, b"connection")}
    upgrades = [value.lower() for value in _values(headers, b"upgrade")]
    chosen, extensions = _values(headers, _SUBPROTOCOL), _names(headers)
    if head.version != b"1.1" or b"upgrade" not in options or upgrades != [b"websocket"]:
        raise BadUpstreamReply(cause="the 101 changes to no WebSocket")
    if _values(headers, b"sec-websocket-accept") != [accept_of(offer.key)]:
        raise BadUpstreamReply(cause="the 101 answers another key")
    if len(chosen) > 1 or not offer.subprotocols.issuperset(chosen):
        raise BadUpstreamReply(cause="the 101 chooses a subprotocol that was not offered")
    if not offer.extensions.issuperset(extensions):
        raise BadUpstreamReply(cause="the 101 uses an extension that was not offered")
    return extensions


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def _values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for key, value in headers if len(key) == len(name) and key.lower() == name]


def _elements(headers: RawHeaders, name: bytes) -> Iterator[bytes]:
    """The elements of a list, over all fields of that name (RFC 9110 5.6.1)."""
    for value in _values(headers, name):
        for element in _ELEMENT.findall(value):
            if element := element.strip(b" \t"):
                yield element


def _names(headers: RawHeaders) -> frozenset[bytes]:
    """The extensions' names, without their parameters."""
    return frozenset(
        element.partition(b";")[0].rstrip(b" \t").lower()
        for element in _elements(headers, b"sec-websocket-extensions")
    )
