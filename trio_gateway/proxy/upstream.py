"""A live upstream: what is known about an endpoint beyond its config.

Live state is keyed by the endpoint's id and survives every reload that doesn't change what it hangs
on: the pool its target, the breaker its settings, the counters just the id.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import trio
from attrs import define, frozen

from trio_gateway.config.model import EndpointConfig, EndpointTls
from trio_gateway.domain.breaker import CircuitBreaker
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.registry import Entry
from trio_gateway.errors import ConfigError, ConnectFailed, ConnectTimedOut
from trio_gateway.observe.metrics import EndpointStats
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Network
from trio_gateway.proxy.pool import Pool
from trio_gateway.proxy.tls_link import TlsLink


@frozen
class Target:
    """Where an endpoint's url points. `authority` is what its Host field says."""

    tls: bool
    host: str
    port: int
    authority: bytes
    path: bytes
    query: bytes | None

    @classmethod
    def of(cls, url: str) -> Target:
        """Read a normalised url. Raises nothing: the config was checked."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        query = parts.query.encode() if "?" in url else None
        return cls(
            tls,
            parts.hostname or "",
            parts.port or (443 if tls else 80),
            parts.netloc.rpartition("@")[2].encode(),
            parts.path.encode() or b"/",
            query,
        )


def client_context(tls: EndpointTls) -> ssl.SSLContext:
    """The TLS settings for an https target. Raises OSError when a file can't be read or used."""
    context = ssl.create_default_context(cafile=tls.ca)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connector:
    """Opens connections to one target: name, TCP and TLS within `timeouts.connect`."""

    def __init__(
        self, config: EndpointConfig, target: Target, network: Network, context: ssl.SSLContext | None
    ) -> None:
        self._target = target
        self._network = network
        self._timeout = config.timeouts.connect
        self._context = context
        self._server_name = config.tls.server_name or target.host

    async def __call__(self) -> Link:
        """A new connection. Raises ConnectFailed or ConnectTimedOut. Cancelled, nothing stays open."""
        try:
            with trio.fail_after(self._timeout):
                return await self._open()
        except trio.TooSlowError:
            raise ConnectTimedOut(cause=f"no connection within {self._timeout:g} s") from None
        except OSError as error:
            raise ConnectFailed(cause=str(error)) from None

    async def _open(self) -> Link:
        link = await self._network.connect(self._target.host, self._target.port)
        try:
            if self._context is not None:
                link = secure = TlsLink(link, self._context, self._server_name)
                await secure.handshake()
        except BaseException:
            link.close()
            raise
        return link


@define(eq=False)
class Upstream:
    """One endpoint's live state: its entry in the registry (and so its status), breaker, pool, counters."""

    entry: Entry
    config: EndpointConfig
    target: Target
    pool: Pool
    breaker: CircuitBreaker
    cache: FallbackCache
    stats: EndpointStats


class PoolFactory:
    """Makes pools. TLS settings are costly to load, so endpoints with equal ones share them.

    Files that were written anew are read anew, for pools made from then on.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._contexts: WeakValueDictionary[object, ssl.SSLContext] = WeakValueDictionary()

    def __call__(self, config: EndpointConfig, target: Target) -> Pool:
        """The pool of an endpoint's target. Raises ConfigError for unusable TLS files."""
        context = self._context(config) if target.tls else None
        return Pool(config.pool, Connector(config, target, self._network, context))

    def load_tls(self, configs: Iterable[EndpointConfig]) -> list[ssl.SSLContext]:
        """Load what the pools of `configs` need, for as long as the caller holds it. Raises ConfigError."""
        return [self._context(config) for config in configs if config.url.startswith("https:")]

    def _context(self, config: EndpointConfig) -> ssl.SSLContext:
        tls = config.tls
        try:
            key = (tls, *(os.stat(path).st_mtime_ns for path in (tls.ca, tls.cert, tls.key) if path))
            context = self._contexts.get(key)
            if context is None:
                context = self._contexts[key] = client_context(tls)
        except OSError as error:
            raise ConfigError([f"endpoint {config.id}: tls: {error}"]) from None
        return context
