"""How a probe reaches its backend: a connection of its own, and an answer that has an end.

Each probe connects through the network seam and closes behind itself. So a backend that no longer accepts
is found out, nobody else's request meets what a probe left behind, and two probes share nothing but TLS
settings that are costly to load.
"""

from __future__ import annotations

import ssl
from functools import lru_cache

from attrs import define

from trio_gateway.domain.health import Check
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Network
from trio_gateway.proxy.tls_link import TlsLink
from trio_gateway.proxy.upstream import Target, client_context

MAX_ANSWER = 64 * 1024
"""How many bytes of a backend's answer are read, its head included."""

_CONTEXTS = 256  # TLS settings kept loaded: loading costs 16 ms, keeping 0.7 MB


class ProbeFailed(Exception):
    """The backend is not alive; the text says why, for the operator."""


class Enough(Exception):
    """The backend has sent all that is read of an answer."""


def reason(error: ProbeFailed | OSError) -> str:
    """Why a probe failed, in the words of the system or a library."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError):
        return f"connection error: {error.strerror or error}"
    return str(error)


@lru_cache(4096)
def target_of(url: str) -> Target:
    """Where a probe goes. Raises ProbeFailed when it is no url."""
    try:
        target = Target.of(url)
    except ValueError:
        target = None
    if target is None or not target.host:
        raise ProbeFailed("health_check_path makes no usable url")
    return target


def resource_of(target: Target) -> bytes:
    """A target's path and query, to the byte."""
    return target.path if target.query is None else target.path + b"?" + target.query


class Dial:
    """Opens connections, with TLS where the url asks for it; equal TLS settings are loaded once."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._context = lru_cache(_CONTEXTS)(client_context)

    async def __call__(self, check: Check, target: Target) -> Link:
        """A new connection. Raises OSError. Cancelled, nothing stays open."""
        context = self._context(check.tls) if target.tls else None
        link = await self._network.connect(target.host, target.port)
        try:
            if context is not None:
                link = secure = TlsLink(link, context, check.tls.server_name or target.host)
                await secure.handshake()
        except BaseException:
            link.close()
            raise
        return link


@define(eq=False)
class Answer:
    """What comes back on a link, up to MAX_ANSWER bytes."""

    _link: Link
    _left: int = MAX_ANSWER

    async def receive(self, size: int) -> bytes:
        """The next bytes, b"" at the end. Raises OSError, and Enough for every byte too many."""
        if self._left == 0:
            raise Enough
        data = await self._link.receive(min(size, self._left))
        self._left -= len(data)
        return data
