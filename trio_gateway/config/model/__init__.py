"""The config tree as plain frozen attrs classes: one file a block, names, defaults and one-line docs.

Seconds are floats, sizes are ints of bytes, whatever spelling the file used. Nothing here reads a
file or checks one field against another: `config.load` does the first, `config.check` the second.
"""

from __future__ import annotations

from trio_gateway.config.model.admin import (
    AdminAuth,
    AdminConfig,
    AdminCors,
    JwtConfig,
    LoggingConfig,
    MetricsConfig,
    TracingConfig,
)
from trio_gateway.config.model.breaker import (
    CircuitBreakerConfig,
    FallbackCacheConfig,
    OpenBackoff,
    SlidingWindow,
)
from trio_gateway.config.model.endpoint import (
    CorsConfig,
    EndpointConfig,
    EndpointTimeouts,
    EndpointTls,
    HeaderChanges,
    HeadersConfig,
    MatchConfig,
    PathConfig,
    PoolConfig,
    WebSocketConfig,
)
from trio_gateway.config.model.gateway import GatewayConfig, ShutdownConfig
from trio_gateway.config.model.health import HealthCheckConfig
from trio_gateway.config.model.server import (
    BindConfig,
    CertificateConfig,
    Limits,
    ServerConfig,
    ServerTimeouts,
    ServerTls,
)

__all__ = [
    "AdminAuth",
    "AdminConfig",
    "AdminCors",
    "BindConfig",
    "CertificateConfig",
    "CircuitBreakerConfig",
    "CorsConfig",
    "EndpointConfig",
    "EndpointTimeouts",
    "EndpointTls",
    "FallbackCacheConfig",
    "GatewayConfig",
    "HeaderChanges",
    "HeadersConfig",
    "HealthCheckConfig",
    "JwtConfig",
    "Limits",
    "LoggingConfig",
    "MatchConfig",
    "MetricsConfig",
    "OpenBackoff",
    "PathConfig",
    "PoolConfig",
    "ServerConfig",
    "ServerTimeouts",
    "ServerTls",
    "ShutdownConfig",
    "SlidingWindow",
    "TracingConfig",
    "WebSocketConfig",
]
