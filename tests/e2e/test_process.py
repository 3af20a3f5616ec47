"""The gateway as an operator has it: descriptors, limits, a standard output that nobody reads, signals."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from tests.e2e.here import RealWorld, real_world
from tests.e2e.started import GatewayProcess, backend, config, gateway_process, until
from tests.support.client import Answer, request
from tests.support.faults import fault, through
from tests.support.h2client import H2Client, open_h2
from tests.support.upstream import Wire, answering
from trio_gateway.proxy.link import Link

pytestmark = through("gateway")

_PATH = "/orchestrator/users/x"
_LAST_SECOND = 1.0  # what stopping may take beyond delay and drain
_BUSY = 0.5  # and what a busy machine may add

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prlimit")


async def _get(gateway: GatewayProcess, target: str = _PATH) -> Answer:
    client = await gateway.client()
    try:
        return await client.get(target)
    finally:
        client.link.close()


# ---- nothing is left behind -------------------------------------------------------------------------


async def _faulty(wire: Wire) -> None:
    """A backend that does what the query asks for."""
    while True:
        received = await wire.request()
        deed = received.target.partition(b"?")[2]
        if deed == b"truncate":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            return
        if deed == b"reset":
            wire.link.abort()
            return
        if deed == b"garbage":
            await wire.send(b"\x00\x01 what is this\r\n\r\n")
            return
        if deed == b"never":
            await wire.closed()
            return
        await wire.reply(received.body or b"ok")


async def _leave(world: RealWorld, deed: str) -> None:
    """Ask, then go before the answer."""
    client = await world.client()
    await client.send(request(f"{_PATH}?{deed}"))
    await trio.lowlevel.checkpoint()
    client.link.abort()


async def _mixed(world: RealWorld, number: int) -> None:
    """One of several kinds of exchange, good and bad."""
    kind = number % 10
    if kind < 3:
        await world.get(f"{_PATH}?{'ok'}")
    elif kind == 3:
        client = await world.client()
        await client.send(request(_PATH, method="POST", body=b"x" * 2000) * 2)
        await client.answer()
        await client.answer()
        client.link.close()
    elif kind == 4:
        await _leave(world, "never")
    elif kind == 5:
        async with open_h2(await world.connect()) as h2:
            await h2.fetch(b"POST", _PATH.encode(), body=b"h2")
            stream = await h2.request(b"GET", f"{_PATH}?never".encode())
            await h2.reset(stream)
    elif kind == 6:
        client = await world.client()
        await client.send(request(f"{_PATH}?truncate"))
        assert (await client.head()).status == 200
        client.link.close()
    else:
        await world.get(f"{_PATH}?{('reset', 'garbage', 'ok')[kind - 7]}")


@fault("Z1")
@linux
@pytest.mark.parametrize("exchanges", [500, pytest.param(5_000, marks=pytest.mark.soak)])
async def test_after_mixed_exchanges_descriptors_and_tasks_are_back_at_the_baseline(exchanges: int) -> None:
    """Good exchanges, departures, resets, cuts and garbage leave no descriptor and no task behind."""
    more = "circuit_breaker: {failure_threshold: 100000}"
    async with real_world(_faulty, endpoint="timeout: 5", more=more) as world:
        await _mixed(world, 0)
        await _quiet(world)
        before = _descriptors(), _tasks()
        for batch in range(0, exchanges, 25):
            async with trio.open_nursery() as nursery:
                for number in range(batch, batch + 25):
                    nursery.start_soon(_mixed, world, number)
        await _quiet(world)
        assert (_descriptors(), _tasks()) == before
        assert len(world.lines) >= exchanges


async def _quiet(world: RealWorld) -> None:
    """Wait until idle connections are gone too."""
    for client in world.clients:
        client.link.close()
    world.clients.clear()
    await world.settled()
    await until(lambda: not world.gateway.server.lanes)
    for upstream in world.gateway.runtime.upstreams.values():
        for lease in iter(upstream.pool.take_nowait, None):
            lease.discard()
    await until(lambda: not world.backend.open)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


# ---- out of descriptors -----------------------------------------------------------------------------


@linux
async def test_a_gateway_out_of_descriptors_keeps_serving(tmp_path: Path) -> None:
    """At EMFILE who is connected is answered, newcomers wait, and all is well once descriptors are free."""
    async with (
        backend(answering) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        first = await gateway.client()
        assert (await first.get(_PATH)).status == 200
        few = gateway.descriptors() + 6
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (few, few))
        crowd = [await gateway.client() for _ in range(20)]
        await gateway.event("out of descriptors; accepting pauses")
        assert (await first.get(_PATH)).status == 200
        for client in crowd:
            client.link.close()
        with trio.fail_after(5):
            assert (await _get(gateway)).status == 200
        first.link.close()


@linux
async def test_a_low_limit_caps_connections_and_refuses_the_rest_politely(tmp_path: Path) -> None:
    """Beyond what the open-file limit allows a newcomer gets 503 and a close; the others are served."""
    allowed = 10
    async with (
        backend(answering) as upstream,
        gateway_process(
            tmp_path, config(upstream.address[1]), shell=f"ulimit -n {64 + 2 * allowed}"
        ) as gateway,
    ):
        served = [await gateway.client() for _ in range(allowed)]
        for client in served:
            assert (await client.get(_PATH)).status == 200
        refused = await gateway.client()
        assert (await refused.head()).status == 503
        assert await refused.at_end()
        assert (await served[0].get(_PATH)).status == 200
        for client in [*served, refused]:
            client.link.close()


# ---- standard output --------------------------------------------------------------------------------


@asynccontextmanager
async def _piped(tmp_path: Path) -> AsyncIterator[tuple[GatewayProcess, int]]:
    """A gateway whose standard output is a pipe; its reading end."""
    reader, writer = os.pipe()
    try:
        async with (
            backend(answering) as upstream,
            gateway_process(tmp_path, config(upstream.address[1]), stdout=writer) as gateway,
        ):
            os.close(writer)
            yield gateway, reader
    finally:
        _close(reader)


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


async def _refused(gateway: GatewayProcess, lines: int) -> None:
    """So many long access lines that need no backend."""
    client = await gateway.client()
    for number in range(lines):
        assert (await client.get(f"/orchestrator/nobody?{number}-{'x' * 6000}")).status == 404
    client.link.close()


async def _burst(gateway: GatewayProcess) -> None:
    """Enough requests with long targets to fill any pipe."""
    client = await gateway.client()
    for number in range(100):
        assert (await client.get(f"{_PATH}?{number}-{'x' * 6000}")).status == 200
    client.link.close()


async def test_a_full_pipe_blocks_no_request_and_no_stop(tmp_path: Path) -> None:
    """Nobody reads the access log: requests are answered, SIGTERM ends the process in time."""
    async with _piped(tmp_path) as (gateway, _):
        await _burst(gateway)
        await trio.sleep(0.2)  # two of the writer's intervals: it stands in the full pipe now
        await _burst(gateway)
        assert await _stopped(gateway) < _LAST_SECOND + _BUSY


async def test_a_pipe_whose_reader_left_costs_lines_not_requests(tmp_path: Path) -> None:
    """The access log's reader is gone: requests are answered, and the loss is told at the end."""
    async with _piped(tmp_path) as (gateway, reader):
        os.close(reader)
        await _burst(gateway)
        assert await _stopped(gateway) < _LAST_SECOND + _BUSY
        await gateway.event("access log lines were lost")


@linux
async def test_a_closed_standard_output_is_nobody_elses(tmp_path: Path) -> None:
    """Started without a standard output the gateway serves, and no log line gets into a connection."""
    async with (
        backend(answering) as upstream,
        gateway_process(tmp_path, config(upstream.address[1]), shell="exec 0<&- 1>&-") as gateway,
    ):
        assert os.readlink(f"/proc/{gateway.pid}/fd/1") == os.devnull
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_burst, gateway)


# ---- stopping ---------------------------------------------------------------------------------------


async def _stopped(gateway: GatewayProcess, number: int = signal.SIGTERM) -> float:
    """Send the signal; seconds until the process is gone, with code 0."""
    began = time.perf_counter()
    gateway.process.send_signal(number)
    with trio.fail_after(10):
        assert await gateway.process.wait() == 0
    return time.perf_counter() - began


async def _stubborn(wire: Wire) -> None:
    """A backend that never answers, or never stops answering."""
    received = await wire.request()
    if received.target.endswith(b"?flood"):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            await wire.send(bytes(64 * 1024))
            await trio.lowlevel.checkpoint()
    await wire.closed()


async def _occupy(gateway: GatewayProcess, nursery: trio.Nursery) -> list[Link]:
    """Clients through both doors: who never read, and who wait for a backend that never answers."""
    links = [await gateway.connect() for _ in range(4)]
    await links[0].send(request(f"{_PATH}?flood"))
    await links[1].send(request(_PATH))
    for link, target in zip(links[2:], (f"{_PATH}?flood", _PATH), strict=True):
        client = await H2Client(link).start(initial_window=2**30)
        await client.open_window(2**30)
        await client.request(b"GET", target.encode())
    await trio.sleep(0.3)
    return links


@fault("S1")
@pytest.mark.parametrize("stdout", ["read", "stuck"])
async def test_a_stop_waits_for_nobody_beyond_its_grace(stdout: str, tmp_path: Path) -> None:
    """SIGTERM ends the process with 0 within delay + drain + 1 s, whoever never reads or never answers."""
    delay, drain = 0.3, 0.5
    reader, writer = os.pipe()
    async with (
        backend(_stubborn) as upstream,
        gateway_process(
            tmp_path,
            config(upstream.address[1], shutdown=f"{{delay: {delay}, drain: {drain}}}"),
            stdout=writer if stdout == "stuck" else None,
        ) as gateway,
        trio.open_nursery() as nursery,
    ):
        if stdout == "stuck":
            await _refused(gateway, 40)
        links = await _occupy(gateway, nursery)
        seconds = await _stopped(gateway)
        print(f"stopped after {seconds:.2f} s of {delay + drain + _LAST_SECOND:.1f}")
        for link in links:
            link.close()
        nursery.cancel_scope.cancel()
    os.close(reader)
    os.close(writer)
    assert delay + drain < seconds < delay + drain + _LAST_SECOND + _BUSY


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """The second SIGTERM does not wait for `drain`; the exit code stays 0."""
    async with (
        backend(_stubborn) as upstream,
        gateway_process(tmp_path, config(upstream.address[1], shutdown="{drain: 60s}")) as gateway,
        trio.open_nursery() as nursery,
    ):
        links = await _occupy(gateway, nursery)
        gateway.terminate()
        await gateway.event("draining")
        seconds = await _stopped(gateway)
        print(f"stopped {seconds:.2f} s after the second signal")
        for link in links:
            link.close()
        nursery.cancel_scope.cancel()
    assert seconds < _LAST_SECOND + _BUSY


@fault("S1")
async def test_a_stop_lets_finish_what_began(tmp_path: Path) -> None:
    """A reply that is on its way when SIGTERM comes arrives whole, and the process does not wait longer."""
    release = trio.Event()

    async def slow(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        await release.wait()
        await wire.send(b"half")

    async with backend(slow) as upstream, gateway_process(tmp_path, config(upstream.address[1])) as gateway:
        client = await gateway.client()
        await client.send(request(_PATH))
        head = await client.head()
        gateway.terminate()
        await gateway.event("draining")
        release.set()
        pieces = [await client.piece(), await client.piece()]
        assert await gateway.process.wait() == 0
        client.link.close()
    assert head.status == 200
    assert b"".join(filter(None, pieces)) == b"halfhalf"
