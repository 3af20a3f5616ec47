"""Which client addresses an endpoint serves, and whose word about others is taken.

An address that cannot be read belongs to no network: it is neither allowed where there are rules, nor
trusted. Who comes through a Unix socket has none, and is `unix:`. IPv4 addresses that arrive mapped into
IPv6 are judged as IPv4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from trio_gateway.config.addresses import UNIX_PEER, AnyNetwork

_REMEMBERED = 4096  # addresses whose verdict is kept, per endpoint


@lru_cache(maxsize=_REMEMBERED)
def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address that `text` spells (a zone is ignored), or None."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def within(text: str, networks: Iterable[AnyNetwork]) -> bool:
    """Whether `text` is an address in one of the networks, or stands for Unix sockets as one of them does."""
    if text == UNIX_PEER:
        return UNIX_PEER in networks
    address = address_of(text)
    return address is not None and any(address in each for each in networks if each != UNIX_PEER)


def compile_access(allow: Sequence[AnyNetwork], deny: Sequence[AnyNetwork]) -> Callable[[str], bool]:
    """Whether a client's address may pass: `deny` wins, and an empty `allow` is everybody.

    Verdicts are remembered for a bounded number of addresses, so long lists cost nothing per request.
    """
    if not allow and not deny:
        return lambda _address: True

    @lru_cache(maxsize=_REMEMBERED)
    def allowed(address: str) -> bool:
        if within(address, deny):
            return False
        return within(address, allow) if allow else address == UNIX_PEER or address_of(address) is not None

    return allowed
