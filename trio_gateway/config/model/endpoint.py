"""`endpoints[]`: one backend service, its routes and its rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from trio_gateway.config.addresses import HostPattern, Network, Origin, PathPrefix, ProbePath, Url
from trio_gateway.config.model.breaker import CircuitBreakerConfig
from trio_gateway.config.model.health import HealthCheckConfig
from trio_gateway.config.tokens import (
    EndpointName,
    EndpointVersion,
    HeaderName,
    HeaderValue,
    HttpMethod,
    Token,
)
from trio_gateway.config.values import Bytes, BytesOrZero, Count, CountOrZero, Integer, Seconds, SecondsOrZero

Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
AuthType = Literal["none", "bearer", "api_key", "basic", "oauth2"]


@frozen
class MatchConfig:
    """`match`: a route by `prefix` beside the name's; the other fields narrow both routes."""

    prefix: PathPrefix | None = None
    hosts: tuple[HostPattern, ...] = ()
    methods: tuple[HttpMethod, ...] = ()
    headers: Mapping[Token, HeaderValue] = field(factory=dict)
    query: Mapping[str, str] = field(factory=dict)
    priority: Integer = 0


@frozen
class PathConfig:
    """`path`: `append` joins url path and rest; `replace_last` is the old gateway's `urljoin`."""

    mode: Literal["append", "replace_last"] = "append"
    strip_prefix: bool = True


@frozen
class HeaderChanges:
    """`headers.request` and `headers.response`: removed first, then set, then added."""

    set: Mapping[HeaderName, HeaderValue] = field(factory=dict)
    add: Mapping[HeaderName, HeaderValue] = field(factory=dict)
    remove: tuple[HeaderName, ...] = ()


@frozen
class HeadersConfig:
    """`headers`: configured changes, and what becomes of Host, Location and Via."""

    request: HeaderChanges = field(factory=HeaderChanges)
    response: HeaderChanges = field(factory=HeaderChanges)
    host: Literal["rewrite", "preserve"] = "rewrite"
    location: Literal["rewrite", "pass"] = "rewrite"
    via: bool = True


@frozen
class CorsConfig:
    """`cors`: off while `origins` is empty. Null `methods`: the endpoint's; null `headers`: what is asked."""

    origins: tuple[Origin, ...] = ()
    methods: tuple[HttpMethod, ...] | None = None
    headers: tuple[Token, ...] | None = None
    credentials: bool = False
    max_age: SecondsOrZero = 600.0


@frozen
class EndpointTimeouts:
    """`timeouts`, in seconds: connecting, silence after the head, and the whole exchange."""

    connect: Seconds = 5.0
    idle: Seconds = 300.0
    total: Seconds | None = None


@frozen
class PoolConfig:
    """`pool`: connections to one target."""

    max_connections: Count = 256
    max_idle: CountOrZero = 64
    idle_timeout: Seconds = 4.0
    max_lifetime: Seconds = 300.0


@frozen
class WebSocketConfig:
    """`websocket`: silence in both directions, in seconds, and payload bytes of one message."""

    enabled: bool = True
    idle_timeout: Seconds = 300.0
    max_message_size: Bytes = 16 * 1024 * 1024


@frozen
class EndpointTls:
    """`tls`: how an https target is verified, and the certificate that we show it. Paths of PEM files."""

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


@frozen
class EndpointConfig:
    """One entry of `endpoints`. `url` is normalised: lower-case scheme and host, no default port, a path."""

    url: Url
    name: EndpointName | None = None
    version: EndpointVersion | None = None
    methods: tuple[Method, ...] = ("GET",)
    auth_type: AuthType = "none"
    disabled: bool = False
    health_check_path: ProbePath | None = None
    timeout: Seconds = 30.0
    description: str | None = None
    match: MatchConfig = field(factory=MatchConfig)
    path: PathConfig = field(factory=PathConfig)
    headers: HeadersConfig = field(factory=HeadersConfig)
    cors: CorsConfig = field(factory=CorsConfig)
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    max_body_bytes: BytesOrZero | None = None
    timeouts: EndpointTimeouts = field(factory=EndpointTimeouts)
    pool: PoolConfig = field(factory=PoolConfig)
    websocket: WebSocketConfig = field(factory=WebSocketConfig)
    tls: EndpointTls = field(factory=EndpointTls)
    circuit_breaker: CircuitBreakerConfig = field(factory=CircuitBreakerConfig)
    health_check: HealthCheckConfig = field(factory=HealthCheckConfig)

    @property
    def id(self) -> str:
        """The name, or `endpoint_` and 12 hex digits of the url's SHA-256."""
        return self.name or "endpoint_" + hashlib.sha256(self.url.encode()).hexdigest()[:12]
