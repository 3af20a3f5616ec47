"""The root nursery: what runs beside what, in which order it starts, and how it stops.

Start: plan, upstreams, what the API was told before, listeners; ready when the listeners accept. Stop: for
`shutdown.delay` all goes on, with `Connection: close` and `/readyz` saying 503; then the listeners close
and idle connections with them; what is in flight has `shutdown.drain` to finish; then it is cancelled,
each exchange with an answer of its own where one is still possible. No step waits without a bound.

A crash in what only watches is logged, and it is started again; a crash in what serves ends the gateway.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import structlog
import trio
from attrs import field, frozen

from trio_gateway.admin.app import make_app
from trio_gateway.admin.dispatch import Management
from trio_gateway.admin.guard import Guard, exposure
from trio_gateway.admin.operations import Role, listeners, shown
from trio_gateway.admin.plane import Plane
from trio_gateway.background.notify import STOPPING, notify
from trio_gateway.background.prober import Prober
from trio_gateway.background.registrations import Registrations
from trio_gateway.background.renewal import CertificateWatcher
from trio_gateway.background.state import StateStore
from trio_gateway.background.watcher import Reloader, Watcher
from trio_gateway.config.addresses import Address
from trio_gateway.config.binds import address_text
from trio_gateway.config.model import GatewayConfig
from trio_gateway.config.source import Recall, Table
from trio_gateway.errors import GatewayError, ShuttingDown
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.loop import watch_loop
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.network import Network, RealNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import record_refusal, serve
from trio_gateway.proxy.termination import load_termination
from trio_gateway.server.hypercorn import HypercornDoor
from trio_gateway.server.ingress import Ingress
from trio_gateway.server.listener import Bound, Server, open_listeners

log = structlog.get_logger("trio_gateway")

_GOODBYES = 2.0  # seconds over which WebSockets are told: their clients come back at once
_LAST_WORDS = 0.5  # seconds for cancelled exchanges to answer, within the promised second
_RESTART_DELAY = 1.0
_LONGEST_RESTART_DELAY = 60.0


def _as_it_is(config: GatewayConfig) -> GatewayConfig:
    return config


@frozen(eq=False)
class Source:
    """The file that a config came from, so that it can be read again.

    `defaults` are its top-level blocks, for endpoints that come through the API; `digest` is that of the
    text that was read; `adjust` puts in what the command line said; `recall` is what the reading remembers.
    """

    path: str
    defaults: Table
    digest: bytes
    adjust: Callable[[GatewayConfig], GatewayConfig] = _as_it_is
    recall: Recall = field(factory=Recall, repr=False)


@frozen(eq=False)
class _Front:
    """One group of listeners with one role, and the server behind them."""

    role: Role
    server: Server
    door: HypercornDoor
    bound: list[Bound]


class Gateway:
    """The whole gateway. `run` serves until `stop` is called or its task is cancelled.

    With a `source` the config file is watched; with a `store` what the API is told outlives the process.
    `network` is the seam for tests and simulation; `access_log` takes one line a request, or is None.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        source: Source | None = None,
        store: StateStore | None = None,
        network: Network | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self.config = config
        self.network = network or RealNetwork()
        self.runtime = Runtime(self.network, access_log=access_log)
        self.store = store or StateStore(None)
        self.prober = Prober(self.runtime)
        self.guard = Guard(self._current_config, self.store.secret)
        self.reloader = _reloader(self.runtime, source, self.guard)
        registrations = Registrations(self.runtime, self.store)
        self.plane = Plane(self.runtime, self.prober, self.reloader, registrations, self.is_stopping)
        self.addresses: list[Address] = []
        self._watched = source is not None
        self._stopping = trio.Event()
        self._serving = trio.CancelScope()
        self._fronts: list[_Front] = []

    @property
    def server(self) -> Server:
        """The server of the proxy's listeners. Raises RuntimeError before `run` has bound them."""
        if not self._fronts:
            raise RuntimeError("the gateway is not running")
        return self._fronts[0].server

    def _current_config(self) -> GatewayConfig:
        return self.runtime.config

    async def run(self, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, report the bound addresses through `task_status`, and serve until stopped.

        Raises OSError when an address can't be bound, ConfigError when a TLS file or a key can't be used;
        nothing is left open. Cancelled, everything in flight ends at once.
        """
        self.runtime.apply(self.config)
        if self.config.server.tls.pairs:
            self.runtime.terminate_with(load_termination(self.config.server.tls))
        self.guard.check(self.config)
        self.plane.registrations.restore(self.store.load())
        try:
            await self._bind()
            async with trio.open_nursery() as background:
                self._start_background(background)
                task_status.started(self.addresses)
                with self._serving:
                    await self._serve()
                background.cancel_scope.cancel()
        finally:
            self._close()

    def _start_background(self, background: trio.Nursery) -> None:
        background.start_soon(_kept_running, "deadline watch", self.runtime.in_flight.watch_deadlines)
        background.start_soon(_kept_running, "connection watch", self.runtime.run)
        background.start_soon(watch_loop, self.runtime.metrics)
        background.start_soon(_kept_running, "health checks", self.prober.run)
        if self._watched:
            background.start_soon(_kept_running, "config watcher", Watcher(self.reloader).run)
        if self.runtime.termination is not None:
            watcher = CertificateWatcher(self.runtime)
            background.start_soon(_kept_running, "certificate watcher", watcher.run)
        background.start_soon(self._drain_when_told, background)
        if warning := exposure(self.config):
            log.warning(warning)
        for front in self._fronts:
            front.server.warn_of_descriptors()

    async def _serve(self) -> None:
        async with trio.open_nursery() as serving:
            for front in self._fronts:
                serving.start_soon(front.server.serve, front.bound)

    def _close(self) -> None:
        for front in self._fronts:
            for bound in front.bound:
                bound.listener.close()
        self.runtime.close()
        self.store.close()

    # ---- listeners

    async def _bind(self) -> None:
        for bind, role in listeners(self.config):
            front = self._front(role)
            opened = await open_listeners(self.network, bind)
            front.bound.extend(opened)
            if role in ("shared", "proxy"):
                self.addresses += [bound.listener.address for bound in opened]
            if role in ("shared", "admin"):
                self.store.note_addresses(map(self._noted, front.bound))

    def _noted(self, bound: Bound) -> str:
        """A listener's address for the command line."""
        return "https://" * self.config.server.speaks_tls(bound.config) + address_text(bound.listener.address)

    def _front(self, role: Role) -> _Front:
        """The front of a role: one server for all its listeners."""
        for front in self._fronts:
            if front.role == role:
                return front
        door = self._open_door(role)
        server = Server(self.runtime, door, proxies=role in ("shared", "proxy"))
        self._fronts.append(_Front(role, server, door, []))
        return self._fronts[-1]

    def _open_door(self, role: Role) -> HypercornDoor:
        """The way through Hypercorn and Quart, over the same runtime as the lane's."""
        runtime, config = self.runtime, self._current_config

        async def serve_exchange(exchange: Exchange) -> None:
            await serve(exchange, runtime)

        def refused(error: GatewayError, request_id: bytes, client: str) -> None:
            record_refusal(runtime, error, request_id, client, "quart")

        ingress = Ingress(serve_exchange, config, refused, proxies=role in ("shared", "proxy"))
        management = Management(self.plane, self.guard, shown(self.config, role))
        return HypercornDoor(make_app(config, ingress, management), lambda: config().server, runtime.metrics)

    # ---- stopping

    def is_stopping(self) -> bool:
        """The graceful stop has begun: not ready for new clients."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begin the graceful stop; said twice, cancel at once."""
        if self._stopping.is_set():
            self._serving.cancel()
        self._stopping.set()

    async def _drain_when_told(self, background: trio.Nursery) -> None:
        await self._stopping.wait()
        shutdown = self.runtime.plan.config.shutdown
        for front in self._fronts:
            front.server.start_draining()
        await trio.sleep(shutdown.delay)
        end = trio.current_time() + shutdown.drain
        async with trio.open_nursery() as closing:
            for front in self._fronts:
                closing.start_soon(front.server.close_listeners)
        for front in self._fronts:
            front.door.drain()
            background.start_soon(front.server.retire_idle)
        log.info("draining", in_flight=len(self.runtime.in_flight), seconds=shutdown.drain)
        background.start_soon(self.runtime.streams.drain, min(_GOODBYES, shutdown.drain / 2))
        await trio.sleep_until(end)
        for exchange in list(self.runtime.in_flight):
            exchange.cancel(ShuttingDown())
        self._serving.deadline = trio.current_time() + _LAST_WORDS

    async def stop_on_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call `stop` for each SIGTERM and SIGINT; runs until cancelled."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("stopping", signal=signal.Signals(number).name)
                notify(STOPPING)
                self.stop()


def _reloader(runtime: Runtime, source: Source | None, guard: Guard) -> Reloader:
    """A reader of the source that refuses a config whose keys can't be used."""
    if source is None:
        return Reloader("", runtime)

    def adjust(config: GatewayConfig) -> GatewayConfig:
        return guard.check(source.adjust(config))

    return Reloader(
        source.path,
        runtime,
        defaults=source.defaults,
        recall=source.recall,
        digest=source.digest,
        adjust=adjust,
        warn=exposure,
    )


async def _kept_running(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run what only watches, again after each crash, with a growing delay; until cancelled."""
    delay = _RESTART_DELAY
    while True:
        began = trio.current_time()
        try:
            await run()
        except Exception as crash:
            log.exception(f"{what} failed and will be started again", exc_info=crash)
        if trio.current_time() - began > _LONGEST_RESTART_DELAY:
            delay = _RESTART_DELAY
        await trio.sleep(delay)
        delay = min(2 * delay, _LONGEST_RESTART_DELAY)
