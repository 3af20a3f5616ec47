"""The PROXY protocol, as haproxy's text has it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.wire.proxy_protocol import (
    LONGEST,
    BadProxyHeader,
    ProxyHeader,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX = 0x11, 0x12, 0x21, 0x22, 0x31


def block(command: int, family: int, rest: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2) + rest


def ends(source: str, destination: str, ports: tuple[int, int]) -> bytes:
    """The addresses of version 2."""
    kind = IPv6Address if ":" in source else IPv4Address
    packed = kind(source).packed + kind(destination).packed
    return packed + ports[0].to_bytes(2) + ports[1].to_bytes(2)


V4 = ends("192.0.2.7", "198.51.100.1", (56324, 443))
V6 = ends("2001:db8::7", "2001:db8::1", (56324, 443))
TLV = b"\x04\x00\x02ab"

GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", ("192.0.2.7", 56324), ("198.51.100.1", 443)),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", ("255.255.255.255", 65535), ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:DB8::7 2001:db8::1 1 2\r\n", ("2001:db8::7", 1), ("2001:db8::1", 2)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ("192.0.2.7", 1), ("::1", 2)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 whatever 65535 1\r\n", None, None),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None, None),
    (block(PROXY, TCP4, V4), ("192.0.2.7", 56324), ("198.51.100.1", 443)),
    (block(PROXY, TCP4, V4 + TLV), ("192.0.2.7", 56324), ("198.51.100.1", 443)),
    (block(PROXY, TCP6, V6), ("2001:db8::7", 56324), ("2001:db8::1", 443)),
    (block(PROXY, TCP6, ends("::ffff:192.0.2.7", "::1", (1, 2))), ("192.0.2.7", 1), ("::1", 2)),
    (block(PROXY, UDP4, V4), None, None),
    (block(PROXY, UDP6, V6), None, None),
    (block(PROXY, UNIX, bytes(216)), ("unix:", 0), ("unix:", 0)),
    (block(PROXY, 0x00, b""), None, None),
    (block(PROXY, 0x00, TLV), None, None),
    (block(LOCAL, 0x00, b""), None, None),
    (block(LOCAL, TCP4, V4), None, None),
    (block(LOCAL, 0xFF, b"x" * 9), None, None),
    (block(PROXY, TCP4, V4 + bytes(LONGEST - 16 - len(V4))), ("192.0.2.7", 56324), ("198.51.100.1", 443)),
]

BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
    b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
    b"PROXY TCP4 1.1.1.1\x002.2.2.2 1 2\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rGET",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    b"PROXY UNKNOWNER\r\n",
    b"PROXY " + b"x" * 101,
    SIGNATURE[:-1] + b"X",
    block(0x11, TCP4, V4),
    block(0x22, TCP4, V4),
    block(PROXY, 0x13, V4),
    block(PROXY, 0x41, V4),
    block(PROXY, TCP4, V4[:-1]),
    block(PROXY, TCP6, V4),
    block(PROXY, UNIX, bytes(215)),
    block(PROXY, TCP4, V4 + bytes(LONGEST)),
    block(LOCAL, 0x00, bytes(LONGEST)),
]

addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
ports = st.integers(0, 65535)


@pytest.mark.parametrize(("data", "source", "destination"), GOOD)
def test_a_header_says_whose_the_connection_is(
    data: bytes, source: tuple[str, int] | None, destination: tuple[str, int] | None
) -> None:
    """Both ends, or none where the proxy speaks for itself or of no stream; and not a byte more than it."""
    assert parse_proxy_header(data) == ProxyHeader(len(data), source, destination)
    assert parse_proxy_header(data + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(data), source, destination)


@pytest.mark.parametrize("data", [row[0] for row in GOOD])
def test_a_header_is_taken_whole_or_not_at_all(data: bytes) -> None:
    """However few of its bytes are here, the rest is waited for."""
    assert all(parse_proxy_header(data[:length]) is None for length in range(len(data)))


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    """Another protocol, version, command, family, spelling or length."""
    with pytest.raises(BadProxyHeader):
        parse_proxy_header(data)


def test_another_protocol_is_told_apart_at_its_first_byte() -> None:
    """Nobody waits for the rest of a TLS or HTTP client's opening."""
    for data in (b"G", b"\x16", b"\n", b"PR\r"):
        with pytest.raises(BadProxyHeader):
            parse_proxy_header(data)


@given(source=addresses, destination=addresses, ports=st.tuples(ports, ports), tail=st.binary(max_size=40))
def test_what_is_written_is_read(source: str, destination: str, ports: tuple[int, int], tail: bytes) -> None:
    """Both versions agree on every pair of addresses of one family."""
    if (":" in source) != (":" in destination):
        destination = source
    kind, family = ("TCP6", TCP6) if ":" in source else ("TCP4", TCP4)
    line = f"PROXY {kind} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()
    first = parse_proxy_header(line + tail)
    second = parse_proxy_header(block(PROXY, family, ends(source, destination, ports)) + tail)
    assert first is not None
    assert second is not None
    assert (first.source, first.destination) == (second.source, second.destination)
    assert first.source is not None
    assert first.source[1] == ports[0]


@given(
    data=st.binary(max_size=300)
    | st.binary(max_size=300).map(SIGNATURE.__add__)
    | st.builds(block, st.just(PROXY), st.sampled_from([0, TCP4, TCP6, UNIX]), st.binary(max_size=300))
    | st.text(st.characters(codec="latin-1"), max_size=120).map(
        lambda text: f"PROXY {text}".encode("latin-1")
    )
)
def test_any_bytes_are_judged_alike_however_they_come(data: bytes) -> None:
    """A prefix waits for more, or has the answer of the whole; no other exception is raised."""

    def judged(data: bytes) -> object:
        try:
            return parse_proxy_header(data)
        except BadProxyHeader:
            return BadProxyHeader

    whole = judged(data)
    for length in range(len(data)):
        found = judged(data[:length])
        assert found is None or found == whole
        if found is not None:
            break
    if isinstance(whole, ProxyHeader):
        assert whole.length <= min(len(data), LONGEST)
