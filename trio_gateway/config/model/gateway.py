"""The root of the config tree."""

from __future__ import annotations

from attrs import field, frozen

from trio_gateway.config.model.admin import AdminConfig, LoggingConfig, MetricsConfig, TracingConfig
from trio_gateway.config.model.breaker import CircuitBreakerConfig
from trio_gateway.config.model.endpoint import EndpointConfig
from trio_gateway.config.model.health import HealthCheckConfig
from trio_gateway.config.model.server import ServerConfig
from trio_gateway.config.values import LogLevel, SecondsOrZero


@frozen
class ShutdownConfig:
    """`shutdown`, in seconds: `delay` to be taken out of rotation, then `drain` to finish."""

    delay: SecondsOrZero = 0.0
    drain: SecondsOrZero = 20.0


@frozen
class GatewayConfig:
    """A whole config file. Top-level endpoint blocks are merged into each endpoint when it is read."""

    server: ServerConfig = field(factory=ServerConfig)
    admin: AdminConfig = field(factory=AdminConfig)
    endpoints: tuple[EndpointConfig, ...] = ()
    circuit_breaker: CircuitBreakerConfig = field(factory=CircuitBreakerConfig)
    health_check: HealthCheckConfig = field(factory=HealthCheckConfig)
    metrics: MetricsConfig = field(factory=MetricsConfig)
    shutdown: ShutdownConfig = field(factory=ShutdownConfig)
    state_dir: str | None = None  # null: $STATE_DIRECTORY, then the XDG state folder
    log_level: LogLevel = "INFO"
    logging: LoggingConfig = field(factory=LoggingConfig)
    tracing: TracingConfig = field(factory=TracingConfig)

    @property
    def management_addresses(self) -> tuple[str, ...]:
        """Where the management API listens: at its own address, or at all of the proxy's."""
        if self.admin.bind is not None:
            return (self.admin.bind,)
        return tuple(bind.address for bind in self.server.bind)
