"""The second door: Hypercorn's connection handler on a connection that the lane handed over.

It serves HTTP/2 clients, and over HTTP/1.1 one exchange with the application's own pages. Of Hypercorn
we keep its protocols and events; what surrounds them is ours, because its own handler shields writes
without a deadline, keeps no promise to close, and lets a peer's fault reach the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import trio
from attrs import define, field
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from trio_gateway.config.model import ServerConfig
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.link import Link
from trio_gateway.server.asgi_stream import AsgiStream
from trio_gateway.server.h2 import H2, Incomplete
from trio_gateway.server.link_stream import LinkStream


class OneExchange(H11Protocol):
    """HTTP/1.1 for one request: no upgrade of any kind, and the connection closes behind the reply."""

    context: _Context

    async def _check_protocol(self, event: h11.Request) -> None:
        """Neither `Upgrade: h2c` nor a preface changes the protocol here."""

    async def _create_stream(self, request: h11.Request) -> None:
        stream = AsgiStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        stream.on_reset = self.context.cut
        self.stream = stream
        self.keep_alive_requests += 1
        stream.begin(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )


class DoorConnection(TCPServer):
    """One handed-over connection. Its only timer is the deadline over reading, set while it is idle."""

    stream: LinkStream  # type: ignore[assignment]  # all that it asks of a stream

    def __init__(self, door: HypercornDoor, stream: LinkStream, *, http2: bool) -> None:
        super().__init__(door.asgi, door.hypercorn_config, _Context(self), {}, stream)  # type: ignore[arg-type]
        self._server_config = door.config()
        self._metrics = door.metrics
        self._http2 = http2
        self._reading = trio.CancelScope()
        self._cut = False
        self._draining = False

    async def run(self) -> None:
        """Serve to the end of the connection and close it."""
        link = self.stream.socket
        try:
            async with TaskGroup() as task_group:
                self.protocol = self._make_protocol(task_group)
                await self.protocol.initiate()
                self._limit_head(complete=False)
                if self._draining:
                    self.drain()
                with self._reading:
                    await self._read_data()
                await self.protocol.handle(Closed())
            if not self._cut:
                await self.stream.linger()
        finally:
            link.close()

    def _make_protocol(self, task_group: TaskGroup) -> Any:
        link = self.stream.socket
        parts = (
            self.app,
            self.config,
            self.context,
            task_group,
            ConnectionState({}),
            link.tls,
            link.peer,
            link.local,
            self.protocol_send,
        )
        if not self._http2:
            return OneExchange(*parts)
        return H2(
            *parts,
            server_config=self._server_config,
            metrics=self._metrics,
            client_certificate=link.client_certificate,
        )

    async def protocol_send(self, event: Event) -> None:
        """Take one event of the protocol's. Only bytes may have to wait."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            self._reading.cancel()
        elif isinstance(event, Updated):
            if event.idle:
                self._become_idle()
            else:
                self._reading.deadline = math.inf
        elif isinstance(event, Incomplete) and self._reading.deadline != math.inf:
            self._limit_head(complete=event.complete)

    async def _send(self, data: bytes) -> None:
        if self._cut:
            return
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._cut = True
            self._reading.cancel()
            await self.protocol.handle(Closed())

    def _become_idle(self) -> None:
        self._reading.deadline = trio.current_time() + self._server_config.timeouts.keep_alive

    def _limit_head(self, *, complete: bool) -> None:
        """An idle client that begins something has to end it as soon as in any head."""
        if complete:
            self._become_idle()
        else:
            due = trio.current_time() + self._server_config.timeouts.head
            self._reading.deadline = min(self._reading.deadline, due)

    def cut(self) -> None:
        """End the connection so that the client can tell."""
        self._cut = True
        self.stream.socket.abort()
        self._reading.cancel()

    def drain(self) -> None:
        """Let the connection end after what it carries."""
        self._draining = True
        protocol: object = getattr(self, "protocol", None)
        if isinstance(protocol, H2):
            protocol.drain()


class _Context(WorkerContext):
    """What protocols know of the connection around them."""

    def __init__(self, connection: DoorConnection) -> None:
        super().__init__(max_requests=None)
        self.cut = connection.cut


@define(eq=False)
class HypercornDoor:
    """Serves connections that are not the lane's. `config` is asked anew for each, so a reload shows."""

    app: ASGIFramework
    config: Callable[[], ServerConfig]
    metrics: Metrics
    asgi: ASGIWrapper = field(init=False)
    hypercorn_config: Config = field(init=False)
    _connections: set[DoorConnection] = field(factory=set)
    _draining: bool = False

    def __attrs_post_init__(self) -> None:
        self.asgi = ASGIWrapper(self.app)
        self.hypercorn_config = _hypercorn_config(self.config())

    async def serve(self, link: Link, received: bytes, *, http2: bool) -> None:
        """Serve `link` to its end; `received` was read from it already.

        Raises no Exception for what a peer does. A bug of ours is raised once, bare.
        """
        connection = DoorConnection(self, LinkStream(link, received), http2=http2)
        self._connections.add(connection)
        if self._draining:
            connection.drain()
        try:
            with _unwrapped():
                await connection.run()
        finally:
            self._connections.discard(connection)

    def drain(self) -> None:
        """Send every HTTP/2 client a GOAWAY; connections end when their exchanges do."""
        self._draining = True
        for connection in list(self._connections):
            connection.drain()


def _hypercorn_config(server: ServerConfig) -> Config:
    config = Config()
    config.include_date_header = False
    config.include_server_header = False
    config.keep_alive_max_requests = 1
    config.h11_max_incomplete_size = server.limits.head + 1024
    return config


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the one bug out of the groups that nurseries make; departures are none."""
    try:
        yield
    except BaseExceptionGroup as group:
        cancelled, others = group.split(trio.Cancelled)
        bugs = others and others.subgroup(lambda error: not isinstance(error, OSError))
        if bugs:
            raise _first(bugs) from None
        if cancelled:
            raise cancelled from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
