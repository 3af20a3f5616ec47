"""The root nursery: what runs beside what, in which order it starts, and how it stops.

Start: plan, upstreams, listeners; ready when the listeners accept. Stop: for `shutdown.delay` all goes
on, with `Connection: close`; then the listeners close and idle connections with them; what is in
flight has `shutdown.drain` to finish; then it is cancelled, each exchange with an answer of its own
where one is still possible. No step waits without a bound.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import structlog
import trio

from trio_gateway.admin.app import make_app
from trio_gateway.config.addresses import split_bind
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import GatewayError, ShuttingDown
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.network import Address, Listener, Network, RealNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import record_refusal, serve
from trio_gateway.server.hypercorn import HypercornDoor
from trio_gateway.server.ingress import Ingress
from trio_gateway.server.listener import Server

log = structlog.get_logger("trio_gateway")

_LAST_WORDS = 0.25  # seconds for cancelled exchanges to answer, within the promised second


class Gateway:
    """The whole gateway. `run` serves until `stop` is called or its task is cancelled.

    `network` is the seam for tests and simulation; `access_log` takes one line a request, or is None.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        network: Network | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self.config = config
        self.network = network or RealNetwork()
        self.runtime = Runtime(self.network, access_log=access_log)
        self.addresses: list[Address] = []
        self._stopping = trio.Event()
        self._serving = trio.CancelScope()
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The running server. Raises RuntimeError before `run` has bound its listeners."""
        if self._server is None:
            raise RuntimeError("the gateway is not running")
        return self._server

    async def run(self, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, report the bound addresses through `task_status`, and serve until stopped.

        Raises OSError when an address can't be bound, ConfigError when a TLS file can't be used; nothing is
        left open.
        Cancelled, everything in flight ends at once.
        """
        self.runtime.apply(self.config)
        listeners = await self._bind()
        try:
            door = _open_door(self.runtime)
            async with trio.open_nursery() as background:
                self._server = Server(self.runtime, door)
                background.start_soon(self.runtime.run)
                background.start_soon(self._drain_when_told, door.drain)
                task_status.started(self.addresses)
                with self._serving:
                    await self._server.serve(listeners)
                background.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.close()
            self.runtime.close()

    async def _bind(self) -> list[Listener]:
        listeners: list[Listener] = []
        try:
            for bind in self.config.server.bind:
                listeners += await self.network.listen(*split_bind(bind))
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        self.addresses = [listener.address for listener in listeners]
        return listeners

    # ---- stopping

    def stop(self) -> None:
        """Begin the graceful stop; said twice, cancel at once."""
        if self._stopping.is_set():
            self._serving.cancel()
        self._stopping.set()

    async def _drain_when_told(self, drain_door: Callable[[], None]) -> None:
        await self._stopping.wait()
        shutdown = self.runtime.plan.config.shutdown
        self.server.start_draining()
        await trio.sleep(shutdown.delay)
        self.server.close_listeners()
        drain_door()
        log.info("draining", in_flight=len(self.runtime.in_flight), seconds=shutdown.drain)
        await trio.sleep(shutdown.drain)
        for exchange in list(self.runtime.in_flight):
            exchange.cancel(ShuttingDown())
        self._serving.deadline = trio.current_time() + _LAST_WORDS

    async def stop_on_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call `stop` for each SIGTERM and SIGINT; runs until cancelled."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("stopping", signal=signal.Signals(number).name)
                self.stop()


def _open_door(runtime: Runtime) -> HypercornDoor:
    """The way through Hypercorn and Quart, over the same runtime as the lane's."""

    def config() -> GatewayConfig:
        return runtime.plan.config

    async def serve_exchange(exchange: Exchange) -> None:
        await serve(exchange, runtime)

    def refused(error: GatewayError, request_id: bytes, client: str) -> None:
        record_refusal(runtime, error, request_id, client, "quart")

    app = make_app(config, Ingress(serve_exchange, config, refused))
    return HypercornDoor(app, lambda: config().server)
