"""`server`: what clients meet before any endpoint is chosen."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from trio_gateway.config.addresses import Network, PathPrefix
from trio_gateway.config.binds import Bind, bind_address
from trio_gateway.config.values import Bytes, BytesOrZero, Count, CountOrZero, Seconds


@frozen
class ServerTimeouts:
    """`server.timeouts`, in seconds: each bounds one kind of wait for the client."""

    handshake: Seconds = 5.0  # TLS handshake, from accept
    head: Seconds = 10.0  # first byte of a request to the end of its head
    body_idle: Seconds = 30.0  # silence inside a request body
    keep_alive: Seconds = 75.0  # silence between requests
    write: Seconds = 30.0  # a write of ours that makes no progress


@frozen
class Limits:
    """`server.limits`: the size of what a client may make us hold. Bytes unless named otherwise."""

    target: Bytes = 8 * 1024
    head: Bytes = 32 * 1024
    fields: Count = 100
    body: BytesOrZero | None = None
    connections: Count = 10_000
    connections_per_client: Count | None = None  # of one address, unless it is a trusted proxy's
    requests_per_connection: Count = 100_000
    min_rate: CountOrZero = 240  # bytes a second, judged after 5 s
    streams: Count = 10_000  # WebSockets and event streams at a time


@frozen
class BindConfig:
    """An item of `server.bind`: a listener. Where a string stands for it, that is its address."""

    address: Bind
    proxy_protocol: bool = False  # each connection begins with a PROXY header, from trusted_proxies alone


def listener(address: str) -> BindConfig:
    """The listener that a string stands for. Raises ValueError with the end of a sentence."""
    return BindConfig(bind_address(address))


@frozen
class ServerConfig:
    """`server`: listeners and their limits."""

    bind: tuple[Annotated[BindConfig, listener] | BindConfig, ...] = (BindConfig("0.0.0.0:8000"),)
    prefix: PathPrefix = "/orchestrator"  # begins with "/", has no "/" at its end
    h2c: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    timeouts: ServerTimeouts = field(factory=ServerTimeouts)
    limits: Limits = field(factory=Limits)
