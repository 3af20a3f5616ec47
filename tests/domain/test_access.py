from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from trio_gateway.domain.access import address_of, compile_access, within

LAN, HOST, V6 = ip_network("10.0.0.0/8"), ip_network("10.0.0.7"), ip_network("2001:db8::/32")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_address_of(text: str, address: str) -> None:
    """Zones are ignored, and IPv4 mapped into IPv6 is IPv4."""
    assert address_of(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "unknown", "10.0.0", "10.0.0.1:80", "[::1]", "010.0.0.1"])
def test_no_address(text: str) -> None:
    """What is no address is in no network."""
    assert address_of(text) is None
    assert not within(text, [ip_network("0.0.0.0/0"), ip_network("::/0")])


@pytest.mark.parametrize(
    ("allow", "deny", "address", "allowed"),
    [
        ([], [], "192.0.2.1", True),
        ([], [], "", True),
        ([LAN], [], "10.1.2.3", True),
        ([LAN], [], "11.1.2.3", False),
        ([LAN], [], "::ffff:10.1.2.3", True),
        ([LAN, V6], [], "2001:db8::1", True),
        ([LAN], [HOST], "10.0.0.7", False),
        ([HOST], [LAN], "10.0.0.7", False),
        ([], [LAN], "10.0.0.7", False),
        ([], [LAN], "::ffff:10.0.0.7", False),
        ([], [LAN], "11.0.0.7", True),
        ([], [LAN], "", False),
        ([LAN], [], "unknown", False),
        ([LAN], [], "unix:", False),
        ([], [LAN], "unix:", True),
        (["unix:"], [], "unix:", True),
        (["unix:"], [], "10.1.2.3", False),
        ([], ["unix:", LAN], "unix:", False),
        ([], ["unix:", LAN], "11.0.0.7", True),
    ],
)
def test_access(allow: list[object], deny: list[object], address: str, allowed: bool) -> None:
    """`deny` wins, an empty `allow` is everybody, and where there are rules nobody passes unread."""
    judge = compile_access(allow, deny)  # type: ignore[arg-type]
    assert judge(address) is allowed
    assert judge(address) is allowed


def test_endpoints_judge_apart() -> None:
    """A verdict remembered for one endpoint is not another's."""
    one, other = compile_access([LAN], []), compile_access([], [LAN])
    assert (one("10.0.0.1"), other("10.0.0.1")) == (True, False)
