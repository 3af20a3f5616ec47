"""Start and stop of a whole gateway: in which order, and in bounded time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.support.client import RawClient, request
from tests.support.gateway import BACKEND, GATEWAY, Lines, World, unprobed, world
from tests.support.stage import silent
from tests.support.upstream import Script, Upstream, Wire, answering
from trio_gateway.config.load import load_config, parse_config
from trio_gateway.errors import ConfigError
from trio_gateway.proxy.live import LiveState
from trio_gateway.proxy.network import MemoryNetwork, RealNetwork
from trio_gateway.supervisor import Gateway, Source

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
shutdown: {delay: 2s, drain: 10s}
health_check: {enabled: false}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST], timeout: 100}
"""


def gateway_of(config: str = CONFIG, network: MemoryNetwork | RealNetwork | None = None) -> Gateway:
    return Gateway(unprobed(parse_config(config, "test.yaml", {}).require()), network=network)


class Stopping:
    """A gateway whose `run` is awaited: `ended` says when it returned."""

    def __init__(self) -> None:
        self.ended = 0.0
        self.lines = Lines()

    async def play(self, script: Script, scene: Callable[[World], object], config: str = CONFIG) -> None:
        """Run a gateway and `scene` beside it until both are done."""
        network, backend = MemoryNetwork(), Upstream(script)
        loaded = unprobed(parse_config(config, "test.yaml", {}).require())
        gateway = Gateway(loaded, network=network, access_log=self.lines)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.serve, network, *BACKEND)
            async with trio.open_nursery() as running:
                started = await running.start(gateway.run)
                assert started == [GATEWAY]
                here = World(network, gateway, backend, nursery, self.lines.records)
                running.start_soon(scene, here)  # type: ignore[arg-type]
            self.ended = trio.current_time()
            assert here.idle()
            assert network.listeners.keys() == {BACKEND}
            for upstream in gateway.runtime.upstreams.values():
                assert upstream.pool.statistics().idle == 0
            for client in here.clients:
                client.link.close()
            nursery.cancel_scope.cancel()

    def reasons(self) -> list[object]:
        """Why the exchanges ended."""
        return [record[13] for record in self.lines.records]


# ---- start ------------------------------------------------------------------------------------------


async def test_run_reports_what_it_bound(autojump_clock: object) -> None:
    """Port 0 takes a free one, and the listeners accept as soon as it is known."""
    network = MemoryNetwork()
    gateway = gateway_of(CONFIG.replace('"127.0.0.1:8000"', '"127.0.0.1:0", "[::1]:0"'), network)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(gateway.run)
        assert [host for host, _ in addresses] == ["127.0.0.1", "::1"]
        assert all(port for _, port in addresses)
        for address in addresses:
            client = RawClient(await network.connect(*address))
            assert (await client.get("/orchestrator/nobody")).status == 404
            client.link.close()
        nursery.cancel_scope.cancel()


async def test_nothing_stays_open_when_an_address_is_taken(autojump_clock: object) -> None:
    """The others are closed again."""
    network = MemoryNetwork()
    (taken,) = await network.listen("127.0.0.1", 9)
    gateway = gateway_of(CONFIG.replace('"127.0.0.1:8000"', '"127.0.0.1:8000", "127.0.0.1:9"'), network)
    with pytest.raises(OSError, match="in use"):
        await gateway.run()
    assert list(network.listeners.values()) == [taken]


async def test_an_unusable_tls_file_is_said_before_anything_is_bound(autojump_clock: object) -> None:
    """ConfigError, and no listener."""
    network = MemoryNetwork()
    text = CONFIG.replace("http:", "https:").replace("timeout: 100", "tls: {ca: /nowhere/ca.pem}")
    with pytest.raises(ConfigError, match="users"):
        await gateway_of(text, network).run()
    assert network.listeners == {}


def test_the_server_is_not_there_before_run() -> None:
    """Whoever asks too early hears of it."""
    with pytest.raises(RuntimeError, match="not running"):
        _ = gateway_of().server


async def test_run_serves_on_real_sockets() -> None:
    """The same code on TCP."""
    gateway = gateway_of(CONFIG.replace("8000", "0"), RealNetwork())
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            ((host, port),) = await nursery.start(gateway.run)
            client = RawClient(await RealNetwork().connect(host, port))
            assert (await client.get("/orchestrator/nobody")).status == 404
            client.link.close()
            gateway.stop()
            gateway.stop()


# ---- stop -------------------------------------------------------------------------------------------


async def test_a_stop_without_work_takes_the_delay_alone(autojump_clock: object) -> None:
    """During it requests are served as before, and told that the connection closes."""
    stopping = Stopping()

    async def scene(here: World) -> None:
        idle = await here.client()
        await idle.get(USERS)
        here.gateway.stop()
        await trio.sleep(1)
        assert (await here.get(USERS)).values("connection") == ["close"]
        assert await idle.at_end()

    await stopping.play(answering, scene)
    assert 2.0 <= stopping.ended < 3.0


async def test_what_is_in_flight_may_finish_within_drain(autojump_clock: object) -> None:
    """And the gateway ends with it; newcomers find nobody."""
    stopping = Stopping()

    async def script(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(8)
        await wire.reply()

    async def scene(here: World) -> None:
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(1)
        here.gateway.stop()
        await trio.sleep(3)
        with pytest.raises(ConnectionRefusedError):
            await here.client()
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, ["close"])
        client.link.close()

    await stopping.play(script, scene)
    assert 8.0 <= stopping.ended < 9.1
    assert stopping.reasons() == ["completed"]


async def never(wire: Wire) -> None:
    await wire.request()
    await wire.closed()


async def endless(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await wire.send(b"3e8\r\n%b\r\n" % bytes(1000))


@pytest.mark.parametrize(
    ("script", "data", "status"),
    [
        (never, request(USERS), 503),
        (never, request(USERS, "Content-Length: 9", method="POST"), 503),
        (endless, request(USERS), None),
        (answering, b"GET / HT", None),
        (answering, b"", None),
    ],
    ids=["no answer", "no body", "no reader", "no head", "nothing"],
)
async def test_nobody_holds_the_gateway_longer_than_drain(
    script: Script, data: bytes, status: int | None, autojump_clock: object
) -> None:
    """An upstream that never answers gets its client a 503, a client that never reads is cut."""
    stopping = Stopping()

    async def scene(here: World) -> None:
        client = await here.client()
        await client.send(data)
        await trio.sleep(1)
        here.gateway.stop()
        if status is not None:
            answer = await client.answer()
            assert (answer.status, answer.values("connection")) == (status, ["close"])
            assert trio.current_time() == pytest.approx(13, abs=0.1)

    await stopping.play(script, scene)
    assert stopping.ended <= 1 + 2 + 10 + 1
    if data.startswith(b"GET /orch") or b"POST" in data:
        assert len(stopping.reasons()) == 1


@pytest.mark.parametrize("data", [request(USERS), request(USERS, "Content-Length: 9", method="POST"), b"GET"])
@pytest.mark.parametrize("moment", [0.5, 3.0])
async def test_a_second_stop_cancels_at_once(data: bytes, moment: float, autojump_clock: object) -> None:
    """During the delay or the drain; each exchange still leaves its line."""
    stopping = Stopping()

    async def scene(here: World) -> None:
        client = await here.client()
        await client.send(data)
        await trio.sleep(1)
        here.gateway.stop()
        await trio.sleep(moment)
        here.gateway.stop()

    await stopping.play(never, scene)
    assert stopping.ended == pytest.approx(1 + moment, abs=0.1)
    assert stopping.reasons() == ["shutting_down"] * (len(data) > 3)


@pytest.mark.parametrize("data", [request(USERS), request(USERS, "Content-Length: 9", method="POST")])
async def test_a_cancelled_gateway_ends_at_once(data: bytes, autojump_clock: object) -> None:
    """The task that runs it may be cancelled like any other; nothing stays open."""
    network, backend = MemoryNetwork(), Upstream(never)
    gateway = gateway_of(CONFIG, network)
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.serve, network, *BACKEND)
        async with trio.open_nursery() as running:
            await running.start(gateway.run)
            client = RawClient(await network.connect(*GATEWAY))
            await client.send(data)
            await trio.sleep(1)
            running.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert backend.open == 0
        assert len(gateway.runtime.in_flight) == 0
        assert await client.at_end()
        client.link.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_it(number: int) -> None:
    """The first begins the graceful stop, the second ends it."""
    gateway = gateway_of(CONFIG.replace("delay: 2s", "delay: 60s"), MemoryNetwork())
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(gateway.stop_on_signals)
            async with trio.open_nursery() as running:
                await running.start(gateway.run)
                os.kill(os.getpid(), number)
                while not gateway.server.draining:
                    await trio.lowlevel.checkpoint()
                os.kill(os.getpid(), number)
            nursery.cancel_scope.cancel()


async def test_a_reload_to_keys_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """The file is judged whole before it is applied: the old config stays, and the answer says why."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    loaded = load_config(path, {})
    source = Source(str(path), loaded.defaults, b"")
    gateway = Gateway(unprobed(loaded.require()), source=source, network=MemoryNetwork())
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        keys = f"admin: {{auth: {{jwt: {{public_key_file: {tmp_path}/none.pem, algorithms: [RS256]}}}}}}\n"
        path.write_text(CONFIG + keys)
        before = gateway.runtime.plan
        result = await gateway.reloader.reload()
        assert not result.success
        assert result.errors == ("admin.auth.jwt.public_key_file: cannot be read: No such file or directory",)
        assert gateway.runtime.plan is before
        nursery.cancel_scope.cancel()


async def test_a_reload_that_opens_the_management_api_to_others_warns(tmp_path: Path) -> None:
    """As the start does: `auth: none` on an address that is not loopback."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    loaded = load_config(path, {})
    source = Source(str(path), loaded.defaults, b"")
    gateway = Gateway(unprobed(loaded.require()), source=source, network=MemoryNetwork())
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        path.write_text(CONFIG.replace("127.0.0.1:8000", "0.0.0.0:8000") + "admin: {auth: none}\n")
        with capture_logs() as logs:
            assert (await gateway.reloader.reload()).success
        assert [line["event"] for line in logs if "admin.auth is none" in line["event"]] == [
            "admin.auth is none: whoever reaches 0.0.0.0:8000 can change this gateway"
        ]
        nursery.cancel_scope.cancel()


async def test_deadlines_hold_while_another_watch_fails(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """It is started again after longer and longer delays; nobody waits for a reply that long."""

    def broken(self: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LiveState, "sweep", broken)
    async with world(CONFIG.replace("timeout: 100", "timeout: 3"), silent) as here:
        with capture_logs() as logs:
            await trio.sleep(120)
            began = trio.current_time()
            assert (await here.get("/orchestrator/users")).status == 504
        assert trio.current_time() - began == pytest.approx(3)
        assert sum("connection watch failed" in entry["event"] for entry in logs) > 3
