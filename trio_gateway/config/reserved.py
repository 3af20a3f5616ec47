"""Names of features that this version does not serve yet.

A security or safety setting that does nothing must never be accepted, so a reserved name is an error
unless its value is null. Names that do no harm while they wait are read, checked and answered with a
warning. Whoever builds a feature deletes its names here and adds its fields to the model.
"""

from __future__ import annotations

from trio_gateway.config.model import (
    CircuitBreakerConfig,
    EndpointConfig,
    EndpointTimeouts,
    GatewayConfig,
    TracingConfig,
)

_ENDPOINT = frozenset(
    {
        "auth",
        "cache",
        "concurrency",
        "deadline",
        "discovery",
        "hedging",
        "load_balancing",
        "mirror",
        "outlier_detection",
        "plugins",
        "rate_limit",
        "retry",
        "retry_budget",
        "split",
        "targets",
    }
)

RESERVED_KEYS: dict[type, frozenset[str]] = {
    GatewayConfig: _ENDPOINT | {"cluster", "workers"},
    EndpointConfig: _ENDPOINT,
    EndpointTimeouts: frozenset(("per_try", "queue")),
    CircuitBreakerConfig: frozenset(("failover_endpoint", "fallback_on")),
    TracingConfig: frozenset(("otlp",)),
}
"""The keys of each block that are refused by name."""

RESERVED_WORDS = frozenset(("failover",))
"""Choices that are refused by name: `circuit_breaker.fallback_strategy: failover`."""

WAITING_VARIABLES = ("WORKERS", "MAX_REQUESTS", "TIMEOUT")
"""Environment variables of the old gateway that are accepted and do nothing yet."""
