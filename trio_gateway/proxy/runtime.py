"""The current plan, the live upstreams behind it, and every change of either.

A change compiles a whole new plan beside the old one and swaps it in one assignment. What it does not
touch is carried over: compiled endpoints as they are, live state by what it hangs on (see `upstream`).
A change is written once, as a generator of small steps: it runs in one go, or, where many endpoints
change at once, in slices that let requests through in between. Either way it is whole or has not
happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import trio
from attrs import define, field

from trio_gateway.config.check import match_key
from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.domain.registry import EndpointConflict, Entry, Registry, Status, SyncResult
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.events import EventLog
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.compile import compile_endpoint, inherited
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.live import LiveState
from trio_gateway.proxy.network import Network
from trio_gateway.proxy.plan import Plan, make_plan
from trio_gateway.proxy.pool import Pool
from trio_gateway.proxy.steps import Steps, T, in_one_go, in_slices
from trio_gateway.proxy.streams import Streams
from trio_gateway.proxy.termination import Termination
from trio_gateway.proxy.upstream import PoolFactory, Upstream

__all__ = ["Plan", "Runtime"]

_SWEEP = 1.0


@define(eq=False)
class Runtime:
    """What serves: the plan, the upstreams, the table of exchanges in flight, what observes them.

    `config` is the file's; the plan's endpoints are the registry's. `changing` is held by whoever waits in
    the middle of a change: one that is checked, stored and applied, or one in slices.
    """

    network: Network
    metrics: Metrics = field(factory=Metrics)
    events: EventLog = field(factory=lambda: EventLog(time.time))
    access_log: AccessLog | None = None
    in_flight: InFlight = field(factory=InFlight)
    registry: Registry = field(factory=Registry)
    config: GatewayConfig = field(init=False, factory=GatewayConfig)
    plan: Plan = field(init=False)
    changing: trio.Lock = field(init=False, factory=trio.Lock)
    live: LiveState = field(init=False)
    streams: Streams = field(init=False)
    termination: Termination | None = field(init=False, default=None)  # of TLS, where clients speak it
    _subscribers: list[Callable[[], None]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.plan = in_one_go(make_plan(self.config, {}))
        self.live = LiveState(PoolFactory(self.network), self.metrics, self.events)
        self.streams = Streams(lambda: self.plan.config.server.limits.streams, self.metrics.streams)
        if self.access_log is not None:
            log = self.access_log
            self.metrics.access_lines_dropped = lambda: log.dropped

    @property
    def upstreams(self) -> dict[str, Upstream]:
        """The live upstreams by endpoint id."""
        return self.live.upstreams

    # ---- changes

    def apply(self, config: GatewayConfig) -> SyncResult:
        """Make `config` the file's; the API's endpoints stay, but on one id the file wins.

        Raises ConfigError for unusable TLS files; then nothing changed.
        """
        return in_one_go(self._applied(config))

    async def apply_in_slices(self, config: GatewayConfig) -> SyncResult:
        """The same without keeping requests waiting; the caller holds `changing`. Not cancelled midway."""
        return await in_slices(self._applied(config))

    def rebuild(self) -> None:
        """A new plan from the registry's entries: the file's in its order, then the API's by time."""
        in_one_go(self._change(self.config, (), lambda: None))

    def judge(self, config: EndpointConfig) -> None:
        """Raise the EndpointConflict that `register` would raise; changes nothing."""
        self.registry.judge(config)
        prefix = config.match.prefix
        for entry in self.registry if prefix is not None else ():
            rivals = entry.id != config.id and entry.config.match.prefix == prefix
            if rivals and match_key(entry.config) == match_key(config):
                raise EndpointConflict(f"`match` is identical with that of '{entry.id}'")

    def register(self, config: EndpointConfig, now: datetime) -> Entry:
        """Add or update an endpoint for the API. Raises EndpointConflict or ConfigError."""
        self.judge(config)
        return in_one_go(self._change(self.config, (config,), lambda: self.registry.register(config, now)))

    def unregister(self, id_: str) -> Entry:
        """Take an endpoint away; it finishes what it carries. Raises EndpointNotFound."""
        return in_one_go(self._change(self.config, (), lambda: self.registry.remove(id_)))

    def set_status(self, id_: str, status: Status) -> Entry:
        """An operator's word, in force at once: the plan reads it. Raises EndpointNotFound."""
        entry = self.registry.set_status(id_, status)
        self._tell_subscribers()
        return entry

    def sync(self) -> SyncResult:
        """Back to what the file says: the API's endpoints go. Raises ConfigError."""
        configs, now = self.config.endpoints, datetime.now(UTC)
        return in_one_go(self._change(self.config, configs, lambda: self.registry.sync(configs, now)))

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every change of endpoints or of their status; it must not raise."""
        self._subscribers.append(callback)

    def _tell_subscribers(self) -> None:
        for callback in self._subscribers:
            callback()

    def terminate_with(self, termination: Termination) -> bool:
        """Have handshakes from now on use `termination`; whether it differs from the one before."""
        before, stats = self.termination, self.metrics.tls
        stats.is_broken = False
        if before is not None and (before.config, before.digest) == (termination.config, termination.digest):
            return False
        self.termination = termination
        stats.expiries = {file: found.expires for file, found in termination.certificates.items()}
        if before is not None:
            stats.renewals += 1
            self.events.record("tls", "certificates renewed")
        return True

    # ---- one change, in steps

    def _applied(self, config: GatewayConfig) -> Steps[SyncResult]:
        configs, now = config.endpoints, datetime.now(UTC)
        return self._change(config, configs, lambda: self.registry.load(configs, now))

    def _change(
        self, config: GatewayConfig, fresh: Iterable[EndpointConfig], edit: Callable[[], T]
    ) -> Steps[T]:
        """Edit the registry, then make its entries the plan.

        `fresh` are the configs that the edit brings: what can fail is done with them before it. What was
        not touched is told by identity and passes as it is.
        """
        pools: dict[str, Pool] = {}
        for each in fresh:
            if each.id not in pools and not self.live.has(each):  # the first of an id counts
                pools[each.id] = self.live.pool(each)
            yield
        result = edit()
        upstreams, endpoints = {}, {}
        same_rest = inherited(config) == inherited(self.config)
        for entry in self._line_up(config):
            upstreams[entry.id] = upstream = self.live.upstream(entry, pools)
            old = self.plan.endpoints.get(entry.id)
            kept = same_rest and old is not None and old.upstream is upstream
            endpoints[entry.id] = old if kept and old else compile_endpoint(entry.config, upstream, config)
            yield
        self.plan = yield from make_plan(config, endpoints, self.plan)
        self.config = config
        self.live.replace(upstreams)
        self._tell_subscribers()
        return result

    def _line_up(self, config: GatewayConfig) -> list[Entry]:
        entries = {entry.id: entry for entry in self.registry}
        of_file = [entries.pop(each.id) for each in config.endpoints if each.id in entries]
        return [*of_file, *entries.values()]

    # ---- running

    async def run(self) -> None:
        """Watch over departing clients and ageing connections; runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.in_flight.watch_departures)
            nursery.start_soon(self._sweep)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(_SWEEP)
            self.live.sweep()

    def close(self) -> None:
        """Close every idle upstream connection."""
        self.live.close()
