"""A whole gateway in memory, approached through one of its two doors, and what must be true behind a test.

`Door("lane")` and `Door("h2")` stage the same gateway; a test says what happens on it once. Leaving the
stage checks that nothing is left: no exchange, no permit, no upstream connection but idle ones, no bug.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing
import trustme
import yaml
from attrs import define, field, frozen
from trio.abc import Clock
from trio.testing import MockClock

from tests.support.agreement import agreed
from tests.support.authority import Authority
from tests.support.client import Answer
from tests.support.doors import Call, Caller, H2Caller, LaneCaller
from tests.support.gateway import BACKEND, GATEWAY, Lines, World, unprobed
from tests.support.upstream import Received, Script, Upstream, Wire, answering
from trio_gateway.config.load import parse_config
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.tls_link import TlsLink
from trio_gateway.proxy.upstream import Upstream as Target
from trio_gateway.supervisor import Gateway

SERVER_NAME = "gateway.example"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
USERS = "/orchestrator/users"
_LINGER = 2.5  # what lingers has gone behind it, what idles in the pool has not


def in_virtual_time(main: Any, clock: Clock | None = None, instruments: Sequence[Any] = ()) -> Any:
    """Run a test on a clock that jumps as soon as everybody waits."""
    return trio.run(main, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


@frozen
class Line:
    """One access line."""

    time: float
    request_id: bytes
    client: str
    method: bytes
    request_target: bytes
    version: bytes
    endpoint: str
    upstream: str
    status: int
    received: int
    sent: int
    duration: float
    attempts: int
    reason: str
    door: str
    traceparent: bytes
    cause: str | None


@define
class StageNetwork(MemoryNetwork):
    """Remembers the gateway's connections to its upstreams. With `tcp` clients come over loopback.

    Names in `unknown` can't be resolved.
    """

    tcp: bool = False
    unknown: set[str] = field(factory=set)
    upstream_links: list[Link] = field(factory=list)

    async def connect(self, host: str, port: int) -> Link:
        """See Network."""
        if (host, port) == GATEWAY and self.tcp:
            return await self._connect_tcp()
        if host in self.unknown:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        link = await MemoryNetwork.connect(self, host, port)
        if (host, port) != GATEWAY:
            self.upstream_links.append(link)
        return link

    async def _connect_tcp(self) -> Link:
        await trio.lowlevel.checkpoint()
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = socket.create_connection(server.getsockname())
            there, _ = server.accept()
        for end in (here, there):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # acknowledgements take real time
        address = (self.client_host, here.getsockname()[1])
        self.listeners[GATEWAY].offer(Link(there, address, GATEWAY))
        return Link(here, GATEWAY, address)


@define
class Stage:
    """A running gateway, its scripted backend, and clients that come through one door.

    `ended` is set when the gateway has stopped.
    """

    world: World
    door: str
    ended: trio.Event
    authority: Authority | None = None
    callers: list[Caller] = field(factory=list)

    @property
    def gateway(self) -> Gateway:
        """The gateway."""
        return self.world.gateway

    @property
    def network(self) -> StageNetwork:
        """Where its connections come from."""
        assert isinstance(self.world.network, StageNetwork)
        return self.world.network

    @property
    def backend(self) -> Upstream:
        """The endpoint `users`'s."""
        return self.world.backend

    @property
    def nursery(self) -> trio.Nursery:
        """For what runs beside the test."""
        return self.world.nursery

    def target(self, name: str = "users") -> Target:
        """An endpoint's live state."""
        return self.gateway.runtime.upstreams[name]

    async def lines(self) -> list[Line]:
        """The access lines, once everybody has done what there was to do."""
        await trio.testing.wait_all_tasks_blocked()
        return [Line(*line) for line in self.world.lines]

    async def reasons(self) -> list[str]:
        """Why each exchange ended."""
        return [line.reason for line in await self.lines()]

    def open_upstream(self) -> int:
        """Connections to upstreams that the gateway holds."""
        return sum(link.fileno() >= 0 for link in self.network.upstream_links)  # TLS closes for it

    # ---- clients

    async def connect(self, show: trustme.LeafCert | None = None) -> Caller:
        """A new client connection; over TLS it shows the certificate `show`."""
        link = await self.dial(show)
        caller: Caller
        if self.door == "lane":
            caller = LaneCaller(link)
        else:
            try:
                caller = await H2Caller.start(link, self.nursery)
            except OSError:  # it does not want us
                link.close()
                raise
        self.callers.append(caller)
        return caller

    async def dial(self, show: trustme.LeafCert | None = None) -> Link:
        """A new connection, over TLS behind its handshake."""
        link = await self.network.connect(*GATEWAY)
        if self.authority is not None:
            context = self.authority.client("h2" if self.door == "h2" else "http/1.1", show=show)
            link = secure = TlsLink(link, context, SERVER_NAME)
            try:
                await secure.handshake()
            except BaseException:
                link.close()
                raise
        return link

    async def open(self, method: str, target: str, *fields: str, **how: Any) -> Call:
        """A request on a connection of its own; see `Caller.open`."""
        return await (await self.connect()).open(method, target, *fields, **how)

    async def fetch(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Answer:
        """A whole request on a connection of its own, and its reply."""
        caller = await self.connect()
        try:
            return await caller.fetch(method, target, *fields, body=body)
        finally:
            caller.vanish()

    async def get(self, rest: str = "", *fields: str) -> Answer:
        """GET something of `users`."""
        return await self.fetch("GET", USERS + rest, *fields)

    async def post(self, body: bytes, rest: str = "", *fields: str) -> Answer:
        """POST to `users`."""
        return await self.fetch("POST", USERS + rest, *fields, body=body)

    # ---- upstreams

    async def serve(self, script: Script, host: str, port: int = 80) -> Upstream:
        """One more backend."""
        backend = Upstream(script)
        await self.nursery.start(backend.serve, self.network, host, port)
        return backend

    # ---- the end

    def part(self) -> None:
        """Let every client go."""
        for caller in self.callers:
            caller.vanish()
        for client in self.world.clients:
            client.link.close()

    async def settle(self) -> None:
        """Check that nothing is left once every client is gone."""
        self.part()
        await trio.sleep(_LINGER)
        runtime = self.gateway.runtime
        assert runtime.metrics.handler_errors == 0
        assert self.world.idle(), [up.pool for up in runtime.upstreams.values()]
        assert not self.gateway.server.lanes
        assert self.open_upstream() == sum(up.pool.statistics().idle for up in runtime.upstreams.values())


@frozen
class Door:
    """How clients come: `lane` is HTTP/1.1, `h2` HTTP/2 by the Quart route; with an `authority` over TLS."""

    name: str
    authority: Authority | None = None

    @asynccontextmanager
    async def stage(
        self,
        script: Script = answering,
        endpoint: Mapping[str, Any] | None = None,
        *,
        server: Mapping[str, Any] | None = None,
        others: Iterable[Mapping[str, Any]] = (),
        tcp: bool = False,
        network: StageNetwork | None = None,
        **top: Any,
    ) -> AsyncIterator[Stage]:
        """A running gateway before a scripted backend.

        `endpoint` adds to the endpoint `users`, `server` to that block, `top` further blocks, `others`
        further endpoints.
        """
        if self.authority is not None:
            pair = self.authority.issue(SERVER_NAME)
            server = {"h2c": False, **(server or {})}
            server["tls"] = {"cert": pair.cert, "key": pair.key, **server.get("tls", {})}
        text = config_text(endpoint, server=server, others=others, **top)
        network, lines = network or StageNetwork(tcp=tcp), Lines()
        if tcp:  # the kernel needs a moment of real time before each jump
            _clock().autojump_threshold = 0.002
        loaded = unprobed(parse_config(text, "test.yaml", {}).require())
        gateway = Gateway(loaded, network=network, access_log=lines)  # type: ignore[arg-type]
        backend = Upstream(script)
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.serve, network, *BACKEND)
            ended = trio.Event()
            await nursery.start(_run, gateway, ended)
            world = World(network, gateway, backend, nursery, lines.records)
            stage = Stage(world, self.name, ended, self.authority)
            try:
                yield stage
                await stage.settle()
            finally:
                stage.part()
            nursery.cancel_scope.cancel()


async def _run(gateway: Gateway, ended: trio.Event, task_status: trio.TaskStatus[Any]) -> None:
    await gateway.run(task_status)
    ended.set()


def _clock() -> MockClock:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    return clock


def config_text(
    endpoint: Mapping[str, Any] | None = None,
    *,
    server: Mapping[str, Any] | None = None,
    others: Iterable[Mapping[str, Any]] = (),
    **top: Any,
) -> str:
    """The config of a stage, as YAML."""
    users = {"url": "http://backend.example/", "name": "users", "methods": METHODS, **(endpoint or {})}
    bind = {"bind": [f"{GATEWAY[0]}:{GATEWAY[1]}"], "h2c": True}
    return yaml.safe_dump({"server": {**bind, **(server or {})}, "endpoints": [users, *others], **top})


# ---- scripts ----------------------------------------------------------------------------------------

Reply = bytes | Callable[[Received], bytes]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def recording(seen: list[Received], reply: Reply = OK) -> Script:
    """A backend that notes each request, once three parsers agree on it, and answers `reply`."""
    return partial(_record, seen, reply)


async def _record(seen: list[Received], reply: Reply, wire: Wire) -> None:
    while True:
        wire.raw = b""
        received = await wire.request()
        reading = agreed(wire.raw)
        assert (reading.method, reading.target) == (received.method, received.target)
        assert reading.body == received.body
        seen.append(received)
        await wire.send(reply(received) if callable(reply) else reply)


async def silent(wire: Wire) -> None:
    """A backend that takes a request and never answers."""
    await wire.request()
    await wire.closed()
