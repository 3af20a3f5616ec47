"""The accept loop, its guard, its caps, and how it ends."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing
from attrs import define, field
from structlog.testing import capture_logs

from tests.support.client import RawClient, request
from tests.support.gateway import GATEWAY, world
from tests.support.lane import USERS, gateway
from tests.support.upstream import Wire
from trio_gateway.config.model import BindConfig, GatewayConfig
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork, RealNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.server.lane import Lane
from trio_gateway.server.listener import Bound, Server, connection_cap, raise_descriptor_limit

BIND = BindConfig("127.0.0.1:8000")


class NoDoor:
    """Nothing is handed over here."""

    async def serve(self, link: Link, received: bytes, *, http2: bool) -> None:
        """See Door."""
        raise NotImplementedError("a bug of ours")


@define
class Accepting:
    """A listener whose `accept` fails as told before it works."""

    errors: list[OSError]
    address: tuple[str, int] = GATEWAY
    accepted: int = 0
    closed: trio.Event = field(factory=trio.Event)

    async def accept(self) -> Link:
        """See Listener."""
        await trio.lowlevel.checkpoint()
        self.accepted += 1
        if self.errors:
            raise self.errors.pop(0)
        await self.closed.wait()
        raise trio.ClosedResourceError

    def accept_nowait(self) -> Link | None:
        """See Listener."""
        return None

    def shut(self) -> None:
        """See Listener."""

    def close(self) -> None:
        """See Listener."""
        self.closed.set()


def server_over(network: MemoryNetwork | RealNetwork) -> Server:
    runtime = Runtime(network)
    runtime.apply(GatewayConfig())
    return Server(runtime, NoDoor())


# ---- caps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "descriptors", "cap"),
    [(10_000, 1_048_576, 10_000), (10_000, 1024, 480), (100, 1024, 100), (10_000, 64, 1), (10_000, 0, 1)],
)
def test_the_cap_leaves_a_descriptor_for_each_upstream(configured: int, descriptors: int, cap: int) -> None:
    """Half of what is open to us, less a reserve, and never nothing."""
    assert connection_cap(configured, descriptors) == cap


def test_the_descriptor_limit_is_raised_once() -> None:
    """Asked again, it answers the same."""
    assert raise_descriptor_limit() == raise_descriptor_limit() > 0


async def test_connections_beyond_the_cap_are_refused(autojump_clock: object) -> None:
    """503 and a close, though the request was sent already; a place that comes free serves again."""
    async with gateway(limits="connections: 2") as here:
        first, second = await here.client(), await here.client()
        await first.get(USERS)
        await second.get(USERS)
        third = RawClient(await here.network.connect(*GATEWAY))
        await third.send(request(USERS))
        answer = await third.answer()
        assert (answer.status, answer.value("connection")) == (503, "close")
        assert await third.link.receive() == b""
        third.link.close()
        metrics = here.gateway.runtime.metrics
        assert (metrics.connections_accepted, metrics.connections_refused["connections"]) == (2, 1)
        first.link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert (await here.get(USERS)).status == 200


async def test_open_connections_are_counted(autojump_clock: object) -> None:
    """The gauge follows them up and down."""
    async with gateway() as here:
        metrics = here.gateway.runtime.metrics
        clients = [await here.client() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert metrics.connections_active == 3
        clients[0].link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert metrics.connections_active == 2


# ---- accept -----------------------------------------------------------------------------------------


async def test_a_burst_of_connections_does_not_wait_turn_by_turn(autojump_clock: object) -> None:
    """A busy loop's turns are long: at one connection a turn the backlog of a busy gateway only grew."""
    async with world() as here:
        await trio.testing.wait_all_tasks_blocked()
        clients = []
        for port in range(200):
            near, far = socket.socketpair()
            near.setblocking(False)
            clients.append(far)
            here.network.listeners[GATEWAY].offer(Link(near, ("127.0.0.1", port), GATEWAY))
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert len(here.gateway.server.lanes) == 200
        for client in clients:
            client.close()


async def test_without_descriptors_accepting_pauses(autojump_clock: object) -> None:
    """A tenth of a second each time, counted, and then it goes on."""
    server = server_over(MemoryNetwork())
    listener = Accepting([OSError(number, "none") for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, [Bound(listener, BIND)])
        await trio.sleep(0.25)
        assert (listener.accepted, server.metrics.accept_pauses) == (3, 3)
        await trio.sleep(0.1)
        assert listener.accepted == 4
        server.close_listeners()


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM])
async def test_a_connection_that_fails_while_it_is_accepted_costs_only_itself(
    number: int, autojump_clock: object
) -> None:
    """accept(2) reports a peer's network errors; they are no reason to stop serving."""
    server = server_over(MemoryNetwork())
    listener = Accepting([OSError(number, "gone")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, [Bound(listener, BIND)])
        await trio.sleep(0.5)
        assert listener.accepted == 2
        server.close_listeners()


@pytest.mark.parametrize("steps", range(6))
async def test_closing_the_listeners_ends_serve(steps: int) -> None:
    """On real sockets, whatever the accept loop is doing just then with a connection that came."""
    network = RealNetwork()
    server = server_over(network)
    (listener,) = await network.listen("127.0.0.1", 0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, [Bound(listener, BIND)])
            await trio.testing.wait_all_tasks_blocked()
            link = await network.connect(*listener.address)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            link.close()
            server.close_listeners()
    assert not server.lanes


async def test_what_stands_in_the_backlog_is_served_before_the_end(autojump_clock: object) -> None:
    """A client that had connected when the listeners closed gets its answer."""
    async with gateway() as here:
        link = await here.network.connect(*GATEWAY)
        client = RawClient(link)
        await client.send(request(USERS))
        here.gateway.stop()
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, ["close"])
        link.close()


# ---- the guard --------------------------------------------------------------------------------------


async def test_a_bug_costs_its_connection_and_nothing_else(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted once, the connection closes, and everybody else is served."""
    real = Lane.run

    async def run(lane: Lane) -> None:
        await lane.link.receive()
        raise ZeroDivisionError

    async with gateway() as here:
        with capture_logs() as logged:
            monkeypatch.setattr(Lane, "run", run)
            client = await here.client()
            await client.send(b"x")
            assert await client.at_end()
            monkeypatch.setattr(Lane, "run", real)
        assert [entry["event"] for entry in logged] == ["connection failed"]
        assert here.gateway.runtime.metrics.handler_errors == 1
        here.gateway.runtime.metrics.handler_errors = 0
        assert (await here.get(USERS)).status == 200


@pytest.mark.parametrize(
    "leave", [lambda link: link.close(), lambda link: link.abort(), lambda link: link.shutdown_write()]
)
async def test_a_peer_that_vanishes_is_no_bug(leave: Callable[[Link], None], autojump_clock: object) -> None:
    """In the middle of a head, of a body, of a reply."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await wire.closed()

    async with gateway(script) as here:
        for data in (b"", b"GET", request(USERS, "Content-Length: 9", method="POST") + b"x", request(USERS)):
            client = await here.client()
            await client.send(data)
            await trio.sleep(0.05)
            leave(client.link)
            await trio.sleep(0.1)
        assert not here.gateway.server.lanes
        assert here.gateway.runtime.metrics.handler_errors == 0


# ---- draining ---------------------------------------------------------------------------------------


async def test_idle_connections_close_when_the_listeners_do(autojump_clock: object) -> None:
    """In silence and at once; one that carries a request finishes it first."""

    async def script(wire: Wire) -> None:
        while True:
            received = await wire.request()
            await trio.sleep(3 if received.target == b"/slow" else 0)
            await wire.reply()

    async with gateway(script) as here:
        idle, busy = await here.client(), await here.client()
        await idle.get(USERS)
        await busy.send(request(f"{USERS}/slow"))
        await trio.sleep(1)
        here.gateway.stop()
        assert await idle.at_end()
        assert trio.current_time() < 1.1
        answer = await busy.answer()
        assert (answer.status, answer.values("connection")) == (200, ["close"])
        assert await busy.link.receive() == b""


async def test_a_request_that_has_arrived_is_served_though_its_connection_seemed_idle(
    autojump_clock: object,
) -> None:
    """It came in the very moment when the idle connections were closed."""
    async with gateway() as here:
        client = await here.client()
        await client.get(USERS)
        await trio.testing.wait_all_tasks_blocked()
        client.link.send_nowait(request(USERS))
        here.gateway.server.start_draining()
        here.gateway.server.close_listeners()
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, ["close"])


async def test_during_the_delay_connections_go_on(autojump_clock: object) -> None:
    """Who was not told `Connection: close` may send another request, and is told then."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            await trio.sleep(1)
            await wire.send(b"k")

    config = """
    server: {bind: ["127.0.0.1:8000"]}
    shutdown: {delay: 10s}
    endpoints: [{url: "http://backend.example/", name: users}]
    """
    async with world(config, script) as here:
        client = await here.client()
        await client.send(request(USERS))
        assert (await client.head()).values("connection") == []
        here.gateway.stop()
        while await client.piece() is not None:
            pass
        await trio.sleep(0.1)
        answer = await client.get(USERS)
        assert (answer.status, answer.values("connection")) == (200, ["close"])
        assert (await here.get(USERS)).values("connection") == ["close"]
