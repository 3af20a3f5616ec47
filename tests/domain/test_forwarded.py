"""What trusted proxies say of the client."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.domain.fields import RawHeaders
from trio_gateway.domain.forwarded import address_field, client_address, client_origin, forwarded_element

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"


def forwarded(*values: bytes) -> RawHeaders:
    return [(b"FORWARDED", value) for value in values]


# ---- the address ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("192.0.2.1", [b"203.0.113.9"], "192.0.2.1"),
        (PROXY, [], PROXY),
        (PROXY, [b""], PROXY),
        (PROXY, [b"203.0.113.9"], "203.0.113.9"),
        (PROXY, [b"6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (PROXY, [b"6.6.6.6", b"203.0.113.9,\t10.0.0.2"], "203.0.113.9"),
        (PROXY, [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (PROXY, [b"203.0.113.9, unknown"], PROXY),
        (PROXY, [b"203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
        (PROXY, [b"203.0.113.9, , 10.0.0.2"], "10.0.0.2"),
        (PROXY, [b"203.0.113.9, unix:"], "unix:"),
        (PROXY, [b"\xff"], PROXY),
        (PROXY, [b"203.0.113.9:4711"], "203.0.113.9"),
        (PROXY, [b"203.0.113.9:x"], PROXY),
        (PROXY, [b"[2001:db8::7]"], "2001:db8::7"),
        (PROXY, [b"[2001:DB8:0::7]:80"], "2001:db8::7"),
        (PROXY, [b"[2001:db8::7]evil"], PROXY),
        (PROXY, [b"[2001:db8::7"], PROXY),
        (PROXY, [b"[203.0.113.9]"], "203.0.113.9"),
        (PROXY, [b"::ffff:203.0.113.9"], "203.0.113.9"),
        (PROXY, [b"203.0.113.009"], PROXY),
        ("fd00::1", [b"2001:db8::7, [fd00::2]:80"], "2001:db8::7"),
        ("::ffff:10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("unix:", [b"203.0.113.9"], "unix:"),
        ("", [b"203.0.113.9"], ""),
    ],
)
def test_the_client_by_x_forwarded_for(peer: str, values: list[bytes], client: str) -> None:
    """The first untrusted address from the right, and only trusted peers are asked for it."""
    assert client_address(peer, [(b"X-FORWARDED-for", value) for value in values], PROXIES) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"for=203.0.113.9"], "203.0.113.9"),
        ([b"by=10.0.0.9; For=203.0.113.9 ;proto=https"], "203.0.113.9"),
        ([b'for="203.0.113.9:80", for=10.0.0.2'], "203.0.113.9"),
        ([b"for=6.6.6.6", b'For="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        ([b'for="\\2\\03.0.113.9"'], "203.0.113.9"),
        ([b'for=6.6.6.6;x="a,b;for=7.7.7.7\\"", for=10.0.0.2'], "6.6.6.6"),
        ([b"for=203.0.113.9, for=unknown"], PROXY),
        ([b'for="_gazonk"'], PROXY),
        ([b"proto=https"], PROXY),
        ([b"for=203.0.113.9, proto=https"], PROXY),
        ([b'for="203.0.113.9'], PROXY),
        ([b'x=", for=203.0.113.9'], PROXY),
        ([b"for=203.0.113.9" + b";" * 5000], PROXY),
        ([b"for"], PROXY),
        ([b",;=,"], PROXY),
    ],
)
def test_the_client_by_forwarded(values: list[bytes], client: str) -> None:
    """The same by RFC 7239, quoted or not; where the quoting is broken nothing is believed."""
    assert client_address(PROXY, forwarded(*values), PROXIES) == client


def test_x_forwarded_for_counts_where_there_are_both() -> None:
    """A proxy that knows the one only may let the client's other pass."""
    both = [*forwarded(b"for=6.6.6.6"), (b"X-Forwarded-For", b"203.0.113.9")]
    assert client_address(PROXY, both, PROXIES) == "203.0.113.9"


def test_unix_sockets_are_trusted_by_name() -> None:
    """Only where the config says `unix:`; then the walk goes on behind them."""
    headers = [(b"X-Forwarded-For", b"203.0.113.9, unix:, 10.0.0.2")]
    assert client_address("unix:", headers, PROXIES) == "unix:"
    assert client_address("unix:", headers, (*PROXIES, "unix:")) == "203.0.113.9"


addresses = st.ip_addresses() | st.sampled_from([ip_address("10.1.2.3"), ip_address("fd00::3")])
spellings = st.sampled_from(["{}", " {} ", "[{}]", "[{}]:80"])


@given(chain=st.lists(st.tuples(addresses, spellings), max_size=6), tag=st.booleans())
def test_the_walk_ends_at_the_first_that_nobody_vouches_for(chain: list[tuple[Any, str]], tag: bool) -> None:
    """Either field, any spelling: the same as a naive reading of the list."""
    expected = PROXY
    for address, _ in reversed(chain):
        if not any(ip_address(expected) in network for network in PROXIES):
            break
        expected = str(getattr(address, "ipv4_mapped", None) or address)
    entries = [spelling.format(address) for address, spelling in chain]
    if tag:
        headers = forwarded(", ".join(f'proto=http;for="{entry.strip()}"' for entry in entries).encode())
    else:
        headers = [(b"X-Forwarded-For", ",".join(entries).encode())]
    assert client_address(PROXY, headers, PROXIES) == expected


pieces = st.lists(
    st.sampled_from(b'for= 10.0.0.9 6.6.6.6 " \\ , ; [ ::1 ] :80'.split(b" ")) | st.binary(max_size=3)
).map(b"".join)


@given(name=st.sampled_from([b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host"]), value=pieces)
def test_any_bytes_are_judged(name: bytes, value: bytes) -> None:
    """The client is an address or the peer, the origin one that can stand in a field; nothing is raised."""
    client = client_address(PROXY, [(name, value)], PROXIES)
    assert str(ip_address(client)) == client
    origin = client_origin([(name, value)], b"http", b"gw.example")
    assert origin.startswith(b"http://")
    assert re.fullmatch(rb"http://[A-Za-z0-9._~%:\[\]-]+", origin)


# ---- the url ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ([], b"http://gw.internal:8000"),
        ([(b"X-Forwarded-Proto", b"HTTPS")], b"https://gw.internal:8000"),
        ([(b"X-Forwarded-Host", b"shop.example:8443")], b"http://shop.example:8443"),
        ([(b"x-forwarded-proto", b"http, https"), (b"x-forwarded-host", b"a, b")], b"https://b"),
        ([(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Proto", b"https")], b"https://gw.internal:8000"),
        ([(b"X-Forwarded-Proto", b"javascript")], b"http://gw.internal:8000"),
        ([(b"X-Forwarded-Host", b"a/b")], b"http://gw.internal:8000"),
        ([(b"X-Forwarded-Host", b"[2001:db8::1]:1")], b"http://[2001:db8::1]:1"),
        (forwarded(b"proto=https;host=shop.example"), b"https://shop.example"),
        (forwarded(b"host=evil, host=shop.example;proto=https"), b"https://shop.example"),
        ([*forwarded(b"proto=https"), (b"X-Forwarded-Proto", b"http")], b"http://gw.internal:8000"),
    ],
)
def test_the_url_that_the_client_has_used(headers: RawHeaders, origin: bytes) -> None:
    """By the nearest proxy, in so far as what it says could stand in a url."""
    assert client_origin(headers, b"http", b"gw.internal:8000") == origin


def test_without_any_host_there_is_no_url() -> None:
    """A client of HTTP/1.0 may have named none."""
    assert client_origin([(b"X-Forwarded-Proto", b"https")], b"http", b"") == b""


# ---- what we say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "value", "element"),
    [
        ("192.0.2.7", b"192.0.2.7", b"for=192.0.2.7;proto=https"),
        ("2001:db8::7", b"2001:db8::7", b'for="[2001:db8::7]";proto=https'),
        ("unix:", b"", b"for=unknown;proto=https"),
    ],
)
def test_how_we_name_a_peer(peer: str, value: bytes, element: bytes) -> None:
    """As an address in X-Forwarded-For, as a node in Forwarded (RFC 7239 6)."""
    assert address_field(peer) == value
    assert forwarded_element(value, b"https") == element
