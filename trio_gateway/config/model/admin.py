"""`admin`, `metrics`, `logging` and `tracing`: what operators reach, and what the gateway says of itself."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from trio_gateway.config.addresses import HostPattern, Origin, PathPrefix, Url
from trio_gateway.config.binds import Bind
from trio_gateway.config.tokens import HeaderName, SigningSecret

Algorithm = Literal["HS256", "RS256", "ES256"]


@frozen
class JwtConfig:
    """`admin.auth.jwt`: the one source of keys, and what a token must say.

    Without a source the secret is the state directory's, made at the first start.
    """

    secret: SigningSecret | None = field(default=None, repr=False)
    secret_file: str | None = None
    public_key_file: str | None = None  # PEM
    jwks_url: Url | None = None
    algorithms: tuple[Algorithm, ...] = ("HS256",)
    audience: str | None = None
    issuer: str | None = None


@frozen
class AdminAuth:
    """`admin.auth`: who may use the management API. `auth: none` instead lets everybody."""

    jwt: JwtConfig = field(factory=JwtConfig)


@frozen
class AdminCors:
    """`admin.cors`: web pages of these origins may use the management API."""

    origins: tuple[Origin, ...] = ()


@frozen
class AdminConfig:
    """`admin`: the management API. `bind` moves it from the proxy's listeners to one of its own."""

    bind: Bind | None = None
    auth: Literal["none"] | AdminAuth = field(factory=AdminAuth)
    cors: AdminCors = field(factory=AdminCors)
    allowed_hosts: tuple[HostPattern, ...] = ()  # beside the bound addresses and loopback names


@frozen
class MetricsConfig:
    """`metrics`: whether they are shown, under which path, and on which listener besides."""

    enabled: bool = True
    path: PathPrefix = "/metrics"
    bind: Bind | None = None


@frozen
class LoggingConfig:
    """`logging`: `auto` is text on a terminal, JSON elsewhere; the access log ignores `log_level`."""

    format: Literal["auto", "text", "json"] = "auto"
    access_log: bool = True


@frozen
class TracingConfig:
    """`tracing`: W3C trace context, the field with a request's id, and whether an inbound id is believed."""

    traceparent: bool = True
    request_id_header: HeaderName = "X-Request-ID"
    trust_inbound_request_id: bool = True
