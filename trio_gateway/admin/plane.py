"""The control plane: what the management API reads and changes, and the one clock that it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import itemgetter

import trio
from attrs import define, field

from trio_gateway.background.prober import Prober
from trio_gateway.background.probes import Probe, probes_over
from trio_gateway.background.registrations import Registrations
from trio_gateway.background.watcher import Reloader
from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.breaker import CircuitBreaker, State
from trio_gateway.domain.registry import Entry
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.upstream import Upstream


@define(eq=False)
class Plane:
    """Everything that a view may touch. `wall_clock` gives Unix seconds; `draining` is asked by `/readyz`."""

    runtime: Runtime
    prober: Prober
    reloader: Reloader
    registrations: Registrations
    draining: Callable[[], bool]
    wall_clock: Callable[[], float] = time.time
    probes: Mapping[str, Probe] = field(init=False)
    _wall_offset: float | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.probes = probes_over(self.runtime.network)

    @property
    def config(self) -> GatewayConfig:
        """The file's config, as it is now."""
        return self.runtime.config

    def now(self) -> datetime:
        """Wall time."""
        return datetime.fromtimestamp(self.wall_clock(), UTC)

    def wall_time(self, moment: float | None) -> datetime | None:
        """The wall time of a moment on Trio's clock.

        The distance between both clocks is measured once, and again only when the wall clock was set: the
        same moment is the same time in every reply.
        """
        if moment is None:
            return None
        offset = self.wall_clock() - trio.current_time()
        if self._wall_offset is None or abs(self._wall_offset - offset) > 0.1:
            self._wall_offset = offset
        return datetime.fromtimestamp(moment + self._wall_offset, UTC)

    def upstream(self, endpoint_id: str) -> Upstream:
        """An endpoint's live state. Raises EndpointNotFound."""
        return self.runtime.upstreams[self.runtime.registry.get(endpoint_id).id]

    def breaker(self, entry: Entry) -> CircuitBreaker:
        """An endpoint's breaker, with everything that was due by now."""
        breaker = self.runtime.upstreams[entry.id].breaker
        breaker.expire(trio.current_time())
        return breaker

    def used_breakers(self) -> list[tuple[str, CircuitBreaker]]:
        """The breakers that have seen a result or an operator, by endpoint id: the others say nothing."""
        found = [(entry.id, self.breaker(entry)) for entry in self.runtime.registry]
        return sorted(((id_, breaker) for id_, breaker in found if is_used(breaker)), key=itemgetter(0))


def is_used(breaker: CircuitBreaker) -> bool:
    """Whether a breaker has seen a result or an operator."""
    settled = breaker.last_success_time is not None or breaker.last_failure_time is not None
    return settled or breaker.state is not State.CLOSED or breaker.generation > 0
