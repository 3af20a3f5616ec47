"""The table of all operations: the one source of routes, of the documentation, and of who may do what.

What a listener shows depends on where it stands. Without `admin.bind` everything is on the proxy's
listeners, and `/metrics` needs a token; with it the proxy's show nothing of it, and on `admin.bind` and
`metrics.bind` the metrics are open.
"""

from __future__ import annotations

from typing import Literal

import attrs

from trio_gateway.admin import (
    breaker_api,
    config_api,
    health_api,
    pages,
    registry_api,
    router_api,
    stats_api,
)
from trio_gateway.admin.operation import Operation
from trio_gateway.config.model import BindConfig, GatewayConfig

Role = Literal["shared", "proxy", "admin", "metrics"]
"""What a listener is for: everything, proxied paths alone, the management API alone, or `/metrics` alone."""

_RESOURCES = {
    "configuration": config_api.OPERATIONS,
    "registry": registry_api.OPERATIONS,
    "routing": router_api.OPERATIONS,
    "health": health_api.OPERATIONS,
    "circuit breakers": breaker_api.OPERATIONS,
    "statistics": stats_api.OPERATIONS,
    "pages": pages.OPERATIONS,
}

TABLE = tuple(
    attrs.evolve(operation, tag=tag) for tag, operations in _RESOURCES.items() for operation in operations
)
"""Every operation but the two that describe them."""


def listeners(config: GatewayConfig) -> list[tuple[BindConfig, Role]]:
    """Every listener, and what for. But for the proxy's they speak plainly, whatever `server.tls` says."""
    beside: Role = "shared" if config.admin.bind is None else "proxy"
    found: list[tuple[BindConfig, Role]] = [(bind, beside) for bind in config.server.bind]
    if config.admin.bind is not None:
        found.append((BindConfig(config.admin.bind, tls=False), "admin"))
    if config.metrics.bind is not None and config.metrics.enabled:
        found.append((BindConfig(config.metrics.bind, tls=False), "metrics"))
    return found


def shown(config: GatewayConfig, role: Role) -> tuple[Operation, ...]:
    """The operations that a listener shows."""
    if role == "proxy":
        return ()
    scope: Literal["open", "read"] = "read" if role == "shared" else "open"
    metrics = attrs.evolve(stats_api.METRICS, path=config.metrics.path, scope=scope, tag="statistics")
    if role == "metrics":
        return (metrics,)
    rows = (metrics if operation.view is stats_api.metrics else operation for operation in TABLE)
    return pages.Documentation(rows).operations
