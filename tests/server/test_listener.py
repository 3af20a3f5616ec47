"""The accept loop, its guard, its caps, and how it ends."""

from __future__ import annotations

import errno
import json
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
from trio_gateway.server.listener import Bound, Server

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


async def test_connections_beyond_the_cap_are_refused(autojump_clock: object) -> None:
    """503 and a close, though the request was sent already; a place that comes free serves again."""
    async with gateway(limits="connections: 2") as here:
        first, second = await here.client(), await here.client()
        await first.get(USERS)
        await second.get(USERS)
        third = RawClient(await here.network.connect(*GATEWAY))
        await third.send(request(USERS))
        answer = await third.answer()
        assert (answer.status, answer.value("connection"), answer.value("retry-after")) == (503, "close", "1")
        assert json.loads(answer.body)["code"] == "connection_limit"
        assert here.lines[-1][8] == 503
        assert await third.link.receive() == b""
        third.link.close()
        metrics = here.gateway.runtime.metrics
        assert (metrics.connections_accepted, metrics.connections_refused["connections"]) == (2, 1)
        first.link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert (await here.get(USERS)).status == 200


async def test_a_flood_beyond_the_cap_costs_no_place(autojump_clock: object) -> None:
    """Everybody is answered; few may take their time to read it, and nothing of them stays."""
    async with gateway(limits="connections: 1") as here:
        await (await here.client()).get(USERS)
        crowd = [await here.client() for _ in range(200)]
        assert [(await client.answer()).status for client in crowd] == [503] * 200
        await trio.sleep(2.1)
        for client in crowd:
            assert await client.link.receive() == b""
        assert here.gateway.runtime.metrics.connections_refused["connections"] == 200


async def test_one_client_has_no_more_connections_than_it_may(autojump_clock: object) -> None:
    """429 for the next one, while others are served; a place that comes free can be had again."""
    async with gateway(limits="connections_per_client: 2") as here:
        first, second = await here.client(), await here.client()
        assert [(await client.get(USERS)).status for client in (first, second)] == [200, 200]
        refused = await (await here.client()).get(USERS)
        assert (refused.status, refused.value("connection"), refused.value("retry-after")) == (
            429,
            "close",
            "1",
        )
        assert json.loads(refused.body)["code"] == "client_connection_limit"
        assert here.lines[-1][8] == 429
        assert here.gateway.runtime.metrics.connections_refused["connections_per_client"] == 1
        here.network.client_host = "192.0.2.7"
        assert (await here.get(USERS)).status == 200
        here.network.client_host = "127.0.0.1"
        first.link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert (await here.get(USERS)).status == 200


@pytest.mark.parametrize("peer", ["10.0.0.1", "unix:"])
async def test_who_carries_many_clients_is_none(peer: str, autojump_clock: object) -> None:
    """A trusted proxy's connections and those through a Unix socket are not one client's."""
    async with gateway(limits="connections_per_client: 1", server="trusted_proxies: [10.0.0.0/8]") as here:
        here.network.client_host = peer
        for _ in range(3):
            assert (await (await here.client()).get(USERS)).status == 200


def test_a_cap_that_the_open_files_cut_is_told() -> None:
    """The warning names the key, what holds, and why."""
    server = server_over(MemoryNetwork())
    server.descriptors = 1064
    with capture_logs() as logged:
        server.warn_of_descriptors()
    (line,) = logged
    assert line["event"].startswith("server.limits.connections is cut")
    assert (line["configured"], line["connections"], line["open_files"]) == (10_000, 500, 1064)


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
        await server.close_listeners()


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
        await server.close_listeners()


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
            await server.close_listeners()
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
        assert trio.current_time() < 1.3
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
        await here.gateway.server.close_listeners()
        await here.gateway.server.retire_idle()
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, ["close"])


async def test_a_request_that_comes_too_late_meets_an_end_and_no_reset(autojump_clock: object) -> None:
    """Its client sees that nothing was begun; it is not forwarded, and it delays nobody."""
    async with gateway() as here:
        client = await here.client()
        await client.get(USERS)
        connections = here.backend.connections
        here.gateway.stop()
        assert await client.link.receive() == b""
        await client.send(request(USERS, method="POST", body=b"x"))
        assert await client.link.receive() == b""
        assert here.backend.connections == connections
        assert len(here.lines) == 1


@pytest.mark.parametrize("data", [b"", b"GET"])
async def test_a_client_that_has_sent_no_request_delays_nothing(data: bytes, autojump_clock: object) -> None:
    """Without a byte it goes a moment after the listeners; what has begun may end within its timer."""
    async with gateway() as here:
        client = await here.client()
        await client.send(data)
        await trio.sleep(2)
        here.gateway.stop()
        if data:
            await client.send(request(USERS)[3:])
            assert (await client.answer()).status == 200
        assert await client.link.receive() == b""
        assert trio.current_time() < 2.6


async def test_who_stays_when_told_to_go_is_closed(autojump_clock: object) -> None:
    """At the next sweep: nobody can put off the end by doing nothing."""
    async with gateway() as here:
        client = await here.client()
        await client.get(USERS)
        here.gateway.stop()
        await client.link.receive()
        await trio.sleep(1.5)
        assert not here.gateway.server.lanes
        with pytest.raises(OSError):
            await client.send(b"x")


async def test_who_comes_in_the_last_moment_is_served(autojump_clock: object) -> None:
    """Connected while the listeners close, with a request a moment behind: it was let in."""
    async with gateway() as here:
        here.gateway.stop()
        client = await here.client()
        await trio.sleep(0.3)
        answer = await client.get(USERS)
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
