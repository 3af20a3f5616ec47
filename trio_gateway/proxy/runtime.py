"""The current plan and the live upstreams behind it.

`apply` compiles a whole new plan beside the old one and swaps it in one assignment. An exchange keeps
the plan it started with; live state that the change doesn't touch is carried over.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import trio
from attrs import define, field, frozen

from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.domain.breaker import CircuitBreaker, State, Transition
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.registry import Registry
from trio_gateway.domain.routes import Route, Router, routes_of
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.events import EventLog
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.compile import Endpoint, compile_endpoint
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.network import Network
from trio_gateway.proxy.pool import Pool
from trio_gateway.proxy.upstream import PoolFactory, Target, Upstream

_SWEEP = 1.0


@frozen(eq=False)
class Plan:
    """A config, compiled: frozen, and swapped as one."""

    config: GatewayConfig
    prefix: bytes
    router: Router[Endpoint]
    endpoints: dict[str, Endpoint]
    request_id_header: bytes


@define(eq=False)
class Runtime:
    """What serves: the plan, the upstreams, the table of exchanges in flight, what observes them."""

    network: Network
    metrics: Metrics = field(factory=Metrics)
    events: EventLog = field(factory=lambda: EventLog(time.time))
    access_log: AccessLog | None = None
    in_flight: InFlight = field(factory=InFlight)
    registry: Registry = field(factory=Registry)
    upstreams: dict[str, Upstream] = field(factory=dict)
    plan: Plan = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.plan = _compile(GatewayConfig(), {})
        if self.access_log is not None:
            log = self.access_log
            self.metrics.access_lines_dropped = lambda: log.dropped

    def apply(self, config: GatewayConfig) -> None:
        """Make `config` the current one. Raises ConfigError for unusable TLS files; then nothing changed."""
        make_pool = PoolFactory(self.network)
        pools = {endpoint.id: self._pool(endpoint, make_pool) for endpoint in config.endpoints}
        self.registry.load(config.endpoints, datetime.now(UTC))
        upstreams = {
            endpoint.id: self._upstream(endpoint, pools[endpoint.id]) for endpoint in config.endpoints
        }
        plan = _compile(config, upstreams)
        before, self.upstreams, self.plan = self.upstreams, upstreams, plan
        for id_, old in before.items():
            kept = upstreams.get(id_)
            if kept is None or kept.pool is not old.pool:
                old.pool.close()
            if kept is None:
                self.metrics.forget(id_)

    def _pool(self, config: EndpointConfig, make_pool: PoolFactory) -> Pool:
        old = self.upstreams.get(config.id)
        if old is not None and _same_target(old.config, config):
            return old.pool
        return make_pool(config, Target.of(config.url))

    def _upstream(self, config: EndpointConfig, pool: Pool) -> Upstream:
        old = self.upstreams.get(config.id)
        same_rules = old is not None and old.config.circuit_breaker == config.circuit_breaker
        return Upstream(
            entry=self.registry.get(config.id),
            config=config,
            target=Target.of(config.url),
            pool=pool,
            breaker=old.breaker if old and same_rules else self._breaker(config),
            cache=old.cache if old and same_rules else FallbackCache(config.circuit_breaker.cache),
            stats=self.metrics.endpoint(config.id),
        )

    def _breaker(self, config: EndpointConfig) -> CircuitBreaker:
        def changed(transition: Transition) -> None:
            self.events.record(
                "circuit_breaker",
                transition.cause,
                config.id,
                before=transition.from_state.value,
                after=transition.to_state.value,
            )
            self.metrics.endpoint(config.id).breaker_changed(transition)

        self.metrics.endpoint(config.id).breaker_state = State.CLOSED
        return CircuitBreaker(config.circuit_breaker, trio.current_time(), changed)

    async def run(self) -> None:
        """Watch over departing clients and ageing connections; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.in_flight.watch)
            nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(_SWEEP)
            for upstream in self.upstreams.values():
                upstream.pool.sweep()

    def close(self) -> None:
        """Close every idle upstream connection."""
        for upstream in self.upstreams.values():
            upstream.pool.close()


def _same_target(old: EndpointConfig, new: EndpointConfig) -> bool:
    return (old.url, old.tls, old.pool, old.timeouts.connect) == (
        new.url,
        new.tls,
        new.pool,
        new.timeouts.connect,
    )


def _compile(config: GatewayConfig, upstreams: dict[str, Upstream]) -> Plan:
    endpoints = {
        endpoint.id: compile_endpoint(endpoint, upstreams[endpoint.id], config)
        for endpoint in config.endpoints
    }
    prefix = config.server.prefix.encode().rstrip(b"/")  # "/" is no prefix at all
    routes = [
        Route(endpoint, pattern, kind, endpoint.config.match, order, endpoint.config.path.strip_prefix)
        for order, endpoint in enumerate(endpoints.values())
        for pattern, kind in routes_of(endpoint.config)
    ]
    return Plan(
        config=config,
        prefix=prefix,
        router=Router(prefix, routes),
        endpoints=endpoints,
        request_id_header=config.tracing.request_id_header.encode(),
    )
