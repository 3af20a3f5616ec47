"""The PROXY protocol, versions 1 and 2: a line or a block in front of a connection by which a proxy says
whose connection it carries (haproxy's doc/proxy-protocol.txt). Sans-IO.

A header is taken whole or not at all, and judged from its first byte on: a client that speaks something
else is told apart at once. What the family of version 2 is followed by (TLVs) is passed over unread.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from trio_gateway.config.addresses import UNIX_PEER, Address

LONGEST = 4096
"""Bytes of the longest header that is taken; of version 1, 107."""

_LONGEST_V1 = 107
_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = len(_V2) + 4
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?").fullmatch
_PORT = rb"(0|[1-9][0-9]{0,4})"
_TCP = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) " + _PORT + b" " + _PORT).fullmatch

_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_TCP4, _TCP6, _UNIX_STREAM = 0x11, 0x21, 0x31


class BadProxyHeader(ValueError):
    """What a connection begins with is no header that we take."""


@frozen
class ProxyHeader:
    """`length` bytes at the beginning of a connection, and between whom it is.

    Without a source the proxy speaks for itself (LOCAL), or says nothing that we understand (UNKNOWN):
    the connection is between the two who hold it.
    """

    length: int
    source: Address | None = None
    destination: Address | None = None


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while it is not whole. Raises BadProxyHeader."""
    if data.startswith(_V2[: len(data)]):
        return _version_2(data) if len(data) >= _V2_HEAD else None
    if data.startswith(_V1[: len(data)]):
        return _version_1(data)
    raise BadProxyHeader("does not begin like a PROXY header")


# ---- version 1: a line ------------------------------------------------------------------------------


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LONGEST_V1)
    if end < 0:
        if len(data) >= _LONGEST_V1 or re.search(rb"[\n\x00]|\r[^\n]", data):
            raise BadProxyHeader("the line does not end")
        return None
    line, length = data[:end], end + 2
    if _UNKNOWN(line):
        return ProxyHeader(length)
    found = _TCP(line)
    if found is None:
        raise BadProxyHeader("is no line of version 1")
    kind = IPv4Address if found[1] == b"4" else IPv6Address
    try:
        source, destination = (_plain(kind(found[at].decode())) for at in (2, 3))
    except ValueError:
        raise BadProxyHeader("has an address that is none") from None
    ports = int(found[4]), int(found[5])
    if max(ports) > 65535:
        raise BadProxyHeader("has a port that is none")
    return ProxyHeader(length, (source, ports[0]), (destination, ports[1]))


# ---- version 2: a block -----------------------------------------------------------------------------


def _version_2(data: bytes) -> ProxyHeader | None:
    command, family = data[12], data[13]
    rest = int.from_bytes(data[14:_V2_HEAD])
    length = _V2_HEAD + rest
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("has another version or command")
    if length > LONGEST:
        raise BadProxyHeader("is too long")
    if command == _PROXY and rest < _ADDRESS_BYTES.get(family, length):
        raise BadProxyHeader("has another family, or too few bytes for its addresses")
    if len(data) < length:
        return None
    if command == _LOCAL:
        return ProxyHeader(length)
    return ProxyHeader(length, *_addresses(family, data[_V2_HEAD:length]))


def _addresses(family: int, block: bytes) -> tuple[Address | None, Address | None]:
    """Source and destination; none for what is valid but no stream of ours, as the protocol asks."""
    if family == _UNIX_STREAM:
        return (UNIX_PEER, 0), (UNIX_PEER, 0)
    if family not in (_TCP4, _TCP6):
        return None, None
    kind, size = (IPv4Address, 4) if family == _TCP4 else (IPv6Address, 16)
    ports = block[2 * size :]
    return (
        (_plain(kind(block[:size])), int.from_bytes(ports[:2])),
        (_plain(kind(block[size : 2 * size])), int.from_bytes(ports[2:4])),
    )


def _plain(address: IPv4Address | IPv6Address) -> str:
    """IPv4 that is mapped into IPv6 is IPv4: rules and logs know one spelling of a client."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
