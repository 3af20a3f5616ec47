"""The probes by type: what `health_check.type` can say.

A probe is a coroutine function that takes a `Check`. It returns when the backend is alive and raises
ProbeFailed, or an OSError, when it is not. Its caller bounds the time by cancelling it, and whatever else
it raises is taken for its own fault, not the backend's. Who adds an entry to the mapping adds a type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen

from trio_gateway.background.dial import Dial, target_of
from trio_gateway.background.http_probe import HttpProbe
from trio_gateway.background.websocket_probe import WebSocketProbe
from trio_gateway.domain.health import Check
from trio_gateway.proxy.network import Network

Probe = Callable[[Check], Awaitable[None]]


def probes_over(network: Network) -> dict[str, Probe]:
    """The probes that every gateway has, over one network."""
    dial = Dial(network)
    return {"http": HttpProbe(dial), "tcp": TcpProbe(network), "websocket": WebSocketProbe(dial)}


@frozen
class TcpProbe:
    """Alive is what accepts a connection. TLS is left out: its handshake would be a question already."""

    _network: Network

    async def __call__(self, check: Check) -> None:
        """See the module."""
        target = target_of(check.url)
        link = await self._network.connect(target.host, target.port)
        link.close()
