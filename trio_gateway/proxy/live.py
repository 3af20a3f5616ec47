"""Live state by endpoint, carried from plan to plan.

An endpoint that a change leaves as it was keeps its very `Upstream`. One that changed keeps its pool while
the target stays, its breaker and kept replies while their rules stay, its numbers as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import ref

import trio
from attrs import define, field

from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.breaker import CircuitBreaker, State, Transition
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.registry import Entry
from trio_gateway.observe.events import EventLog
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.pool import Pool
from trio_gateway.proxy.upstream import PoolFactory, Target, Upstream


@define(eq=False)
class LiveState:
    """The upstreams in use, by id."""

    pools: PoolFactory
    metrics: Metrics
    events: EventLog
    upstreams: dict[str, Upstream] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.metrics.pools = lambda: {id_: upstream.pool for id_, upstream in self.upstreams.items()}

    def has(self, config: EndpointConfig) -> bool:
        """Whether a live upstream was made of this very config."""
        old = self.upstreams.get(config.id)
        return old is not None and old.config is config

    def pool(self, config: EndpointConfig) -> Pool:
        """The pool that an endpoint has or needs. Raises ConfigError for unusable TLS files."""
        old = self._with_same_target(config)
        if old is not None:
            return old.pool
        pool = self.pools(config, Target.of(config.url))
        if config.id in self.upstreams:
            pool.stats = self.upstreams[config.id].pool.stats
        return pool

    def load_tls(self, configs: Iterable[EndpointConfig]) -> object:
        """Load the TLS settings that new pools will need; hold the result until they are made.

        For another thread than the event loop's: loading takes 16 ms. Raises ConfigError.
        """
        return self.pools.load_tls([config for config in configs if self._with_same_target(config) is None])

    def _with_same_target(self, config: EndpointConfig) -> Upstream | None:
        old = self.upstreams.get(config.id)
        return old if old is not None and _target(old.config) == _target(config) else None

    def upstream(self, entry: Entry, pools: Mapping[str, Pool]) -> Upstream:
        """The upstream of an entry: the one in use if nothing changed, else made of what still fits."""
        old, config = self.upstreams.get(entry.id), entry.config
        if old is not None and old.entry is entry and (old.config is config or old.config == config):
            old.config = config  # an equal one; next time it is the same
            return old
        same_rules = old is not None and old.config.circuit_breaker == config.circuit_breaker
        return Upstream(
            entry=entry,
            config=config,
            target=Target.of(config.url),
            pool=pools[entry.id] if entry.id in pools else self.pool(config),
            breaker=old.breaker if old and same_rules else self._breaker(config),
            cache=old.cache if old and same_rules else FallbackCache(config.circuit_breaker.cache),
            stats=self.metrics.endpoint(config.id),
        )

    def _breaker(self, config: EndpointConfig) -> CircuitBreaker:
        stats = self.metrics.endpoint(config.id)

        def changed(transition: Transition) -> None:
            upstream = self.upstreams.get(config.id)
            if upstream is None or upstream.breaker is not this():
                return  # replaced: what its last requests bring concerns nobody
            self.events.record(
                "circuit_breaker",
                transition.cause,
                config.id,
                before=transition.from_state.value,
                after=transition.to_state.value,
            )
            stats.breaker_changed(transition)

        stats.breaker_state = State.CLOSED
        breaker = CircuitBreaker(config.circuit_breaker, trio.current_time(), changed)
        this = ref(breaker)  # no circle: what goes is freed at once, though `run` has frozen it
        return breaker

    def replace(self, upstreams: dict[str, Upstream]) -> None:
        """Use these from now on. What they leave behind finishes what it carries, then goes."""
        before, self.upstreams = self.upstreams, upstreams
        for id_, old in before.items():
            kept = upstreams.get(id_)
            if kept is None or kept.pool is not old.pool:
                old.pool.close()
            if kept is None:
                self.metrics.forget(id_)

    def sweep(self) -> None:
        """Close aged connections; called each second."""
        for upstream in self.upstreams.values():
            upstream.pool.sweep()

    def close(self) -> None:
        """Close every idle connection."""
        for upstream in self.upstreams.values():
            upstream.pool.close()


def _target(config: EndpointConfig) -> object:
    return config.url, config.tls, config.pool, config.timeouts.connect
