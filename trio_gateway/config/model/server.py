"""`server`: what clients meet before any endpoint is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

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
class CertificateConfig:
    """An item of `server.tls.certificates`: paths of PEM files, the certificate before its chain."""

    cert: str
    key: str


@frozen
class ServerTls:
    """`server.tls`: how TLS from clients ends here. Which certificate they see, SNI chooses."""

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None  # clients must show a certificate of one of these CAs
    min_version: Literal["1.2", "1.3"] = "1.2"
    certificates: tuple[CertificateConfig, ...] = ()

    @property
    def pairs(self) -> tuple[CertificateConfig, ...]:
        """Every certificate; the first is for clients that ask for no name, or for an unknown one."""
        first = (CertificateConfig(self.cert, self.key),) if self.cert and self.key else ()
        return (*first, *self.certificates)


@frozen
class BindConfig:
    """An item of `server.bind`: a listener. Where a string stands for it, that is its address."""

    address: Bind
    tls: bool | None = None  # None: wherever server.tls has a certificate
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
    tls: ServerTls = field(factory=ServerTls)
    timeouts: ServerTimeouts = field(factory=ServerTimeouts)
    limits: Limits = field(factory=Limits)

    def speaks_tls(self, bind: BindConfig) -> bool:
        """Whether a listener's connections begin with a TLS handshake."""
        return bool(self.tls.pairs) if bind.tls is None else bind.tls
