"""What comes first on a connection, before its first request: the header of a proxy in front of us."""

from __future__ import annotations

from collections.abc import Sequence

from trio_gateway.config.addresses import AnyNetwork
from trio_gateway.domain.access import within
from trio_gateway.proxy.link import Link
from trio_gateway.wire.proxy_protocol import LONGEST, BadProxyHeader, ProxyHeader, parse_proxy_header


async def read_proxy_header(link: Link, trusted: Sequence[AnyNetwork]) -> None:
    """Take the PROXY header that `link` begins with; its peer is then who the header says.

    Exactly the header is read: what is behind it belongs to TLS or HTTP. Raises BadProxyHeader when it is
    malformed or comes from a peer that is not `trusted`, OSError when the peer leaves before its end. The
    caller bounds the time.
    """
    if not within(link.peer[0], trusted):
        raise BadProxyHeader("comes from a peer that is not in server.trusted_proxies")
    header = await _read(link)
    if header.source is not None and header.destination is not None:
        link.peer, link.local = header.source, header.destination


async def _read(link: Link) -> ProxyHeader:
    received = b""
    while True:
        seen = link.peek_nowait(LONGEST - len(received))
        if seen is None:
            await link.readable()
        elif not seen:
            raise ConnectionResetError("the peer left inside its PROXY header")
        elif (header := parse_proxy_header(received + seen)) is not None:
            link.receive_nowait(header.length - len(received))
            return header
        else:  # all of it is the header's
            link.receive_nowait(len(seen))
            received += seen
