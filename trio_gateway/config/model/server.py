"""`server`: what clients meet before any endpoint is chosen."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from attrs import field, frozen

Network = IPv4Network | IPv6Network


@frozen
class ServerTimeouts:
    """`server.timeouts`, in seconds: each bounds one kind of wait for the client."""

    handshake: float = 5.0  # TLS handshake, from accept
    head: float = 10.0  # first byte of a request to the end of its head
    body_idle: float = 30.0  # silence inside a request body
    keep_alive: float = 75.0  # silence between requests
    write: float = 30.0  # a write of ours that makes no progress


@frozen
class Limits:
    """`server.limits`: the size of what a client may make us hold. Bytes unless named otherwise."""

    target: int = 8 * 1024
    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None
    connections: int = 10_000
    requests_per_connection: int = 100_000
    min_rate: int = 240  # bytes a second, judged after 5 s


@frozen
class ServerConfig:
    """`server`: listeners and their limits."""

    bind: tuple[str, ...] = ("0.0.0.0:8000",)
    prefix: str = "/orchestrator"  # begins with "/", has no "/" at its end
    h2c: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    timeouts: ServerTimeouts = field(factory=ServerTimeouts)
    limits: Limits = field(factory=Limits)
