"""A client that leaves, however and whenever, stops the work that was done for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from attrs import frozen

from tests.support.client import request
from tests.support.doors import Call, Caller, push
from tests.support.faults import fault
from tests.support.stage import USERS, Door, Stage, silent
from tests.support.upstream import Script, Wire, answering

DOORS = ("lane", "h2", "lane-tls")

SOON = 0.1  # seconds until the backend sees its connection closed
BEHIND_PIPELINED_BYTES = 0.3


# ---- how it leaves ----------------------------------------------------------------------------------


async def give_up(call: Call, caller: Caller) -> None:
    """FIN, or RST_STREAM."""
    await call.leave()


async def hang_up(call: Call, caller: Caller) -> None:
    """The whole connection ends."""
    caller.vanish()


async def reset(call: Call, caller: Caller) -> None:
    """It ends with a TCP reset."""
    caller.reset()


async def half_close(call: Call, caller: Caller) -> None:
    """It says that nothing more comes, which is a departure, as in nginx."""
    caller.link.shutdown_write()


WAYS = [give_up, hang_up, reset, half_close]
Way = Callable[[Call, Caller], Awaitable[None]]


# ---- what was going on ------------------------------------------------------------------------------


async def events(wire: Wire) -> None:
    """A stream that has said something and is silent now."""
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    await wire.closed()


async def deaf(wire: Wire) -> None:
    """Reads nothing."""
    await trio.sleep(1000)


async def flood(wire: Wire) -> None:
    """Sends for ever."""
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await wire.send(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")


async def begin_get(caller: Caller, stage: Stage) -> Call:
    return await caller.open("GET", USERS)


async def connecting(caller: Caller, stage: Stage) -> Call:
    stage.network.hang.add(stage.backend.address)
    return await caller.open("GET", USERS)


async def queueing(caller: Caller, stage: Stage) -> Call:
    other = await stage.open("GET", USERS)
    await trio.sleep(0.5)
    call = await caller.open("GET", USERS)
    stage.nursery.start_soon(leave_later, other)
    return call


async def leave_later(call: Call) -> None:
    await trio.sleep(5)
    await call.leave()


async def watching(caller: Caller, stage: Stage) -> Call:
    call = await caller.open("GET", USERS)
    assert (await call.head()).status == 200
    assert await call.piece() == b"data: 1\n\n"
    return call


async def stalling(caller: Caller, stage: Stage) -> Call:
    call = await caller.open("POST", USERS, length=1000)
    await call.send(b"x" * 10)
    return call


async def pushing(caller: Caller, stage: Stage) -> Call:
    call = await caller.open("POST", USERS, length=100_000_000)
    stage.nursery.start_soon(push, call, b"x" * 50_000, 2000)
    return call


async def expecting(caller: Caller, stage: Stage) -> Call:
    return await caller.open("POST", USERS, "Expect: 100-continue", length=10)


async def not_reading(caller: Caller, stage: Stage) -> Call:
    call = await caller.open("GET", USERS)
    await call.head()
    return call


@frozen
class Situation:
    """What a client leaves behind."""

    name: str
    script: Script
    begin: Callable[[Caller, Stage], Awaitable[Call]]
    config: Mapping[str, Any] = {}
    others: int = 0  # exchanges that go on


SITUATIONS = [
    Situation("connecting", answering, connecting),
    Situation("queueing for a connection", silent, queueing, {"pool": {"max_connections": 1}}, 1),
    Situation("waiting for the head", silent, begin_get),
    Situation("in a silent event stream", events, watching),
    Situation("in a stalled upload", silent, stalling),
    Situation("asked for its body", silent, expecting),
    Situation("in an upload that stalls at the backend", deaf, pushing),
    Situation("not reading its reply", flood, not_reading),
]


async def stopped(stage: Stage, others: int = 0) -> float:
    """Virtual seconds until nothing is done for the departed any more."""
    begun = trio.current_time()
    with trio.fail_after(2):
        while len(stage.gateway.runtime.in_flight) > others or stage.open_upstream() > others:  # noqa: ASYNC110
            await trio.sleep(0.001)
    return trio.current_time() - begun


@fault("C1")
@fault("rule 6")
@fault("rule 8")
@pytest.mark.parametrize("after", [0.001, 3.0], ids=["at once", "later"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
async def test_a_departure_stops_the_work(door: Door, situation: Situation, way: Way, after: float) -> None:
    """The backend's connection closes within 100 ms; nobody is charged, and every gauge is back."""
    async with door.stage(situation.script, situation.config, tcp=way is reset) as stage:
        caller = await stage.connect()
        call = await situation.begin(caller, stage)
        await trio.sleep(after)
        await way(call, caller)
        assert await stopped(stage, situation.others) <= SOON
        (line,) = await stage.lines()
        assert (line.reason, line.status) in (("client_gone", 499), ("client_gone", 200))
        assert stage.target().breaker.failure_count == 0
        assert stage.target().breaker.last_success_time is None or line.status == 200


@fault("C1")
@pytest.mark.parametrize("way", [hang_up, reset, half_close], ids=lambda way: way.__name__)
@pytest.mark.parametrize("behind", [1, 10, 2000], ids=lambda n: f"{n} requests behind")
async def test_a_departure_shows_behind_pipelined_bytes(lane: Door, way: Way, behind: int) -> None:
    """Though nobody reads them, what stands behind the request hides no FIN and no reset."""
    async with lane.stage(silent, tcp=way is reset) as stage:
        caller = await stage.connect()
        call = await caller.open("GET", USERS)
        await trio.sleep(0.2)
        await caller.link.send(request(USERS) * behind)
        await trio.sleep(0.2)
        await way(call, caller)
        assert await stopped(stage) <= BEHIND_PIPELINED_BYTES
        assert stage.backend.connections == 1


@fault("C1")
async def test_a_stream_that_leaves_leaves_its_neighbours(h2: Door) -> None:
    """RST_STREAM ends one exchange; the others on that connection go on."""
    async with h2.stage(events) as stage:
        caller = await stage.connect()
        calls = [await watching(caller, stage) for _ in range(3)]
        await calls[1].leave()
        await trio.sleep(SOON)
        assert len(stage.gateway.runtime.in_flight) == stage.open_upstream() == 2
        assert await stage.reasons() == ["client_gone"]


async def test_a_connection_that_leaves_takes_all_its_streams(h2: Door) -> None:
    """Every exchange on it stops."""
    async with h2.stage(silent) as stage:
        caller = await stage.connect()
        for _ in range(50):
            await caller.open("GET", USERS)
        await trio.sleep(1)
        assert stage.open_upstream() == 50
        caller.vanish()
        assert await stopped(stage) <= SOON
        assert await stage.reasons() == ["client_gone"] * 50


@fault("C2")
@fault("F12")
async def test_an_upload_that_its_client_abandons_never_looks_whole(door: Door) -> None:
    """The backend sees an abort: no last chunk, or fewer bytes than were promised."""
    ends: list[str] = []

    async def reading(wire: Wire) -> None:
        head = await wire.head()
        try:
            await wire.body(head)
        except Exception:
            ends.append("cut")
            raise
        ends.append("whole")

    async with door.stage(reading) as stage:
        for how in ({"stream": True}, {"length": 1000}):
            call = await stage.open("POST", USERS, **how)
            await call.send(b"x" * 500)
            await trio.sleep(1)
            await call.leave()
            await trio.sleep(1)
        assert ends == ["cut", "cut"]


@fault("rule 8")
async def test_who_leaves_behind_the_last_byte_has_left_nothing(door: Door) -> None:
    """A departure behind a whole reply is no error."""
    async with door.stage() as stage:
        await stage.get()
        assert await stage.reasons() == ["completed"]
        assert stage.target().pool.statistics().idle == 1


@fault("C6")
@pytest.mark.parametrize("leavers", [200])
async def test_a_crowd_that_leaves_leaves_nothing(door: Door, leavers: int) -> None:
    """With the backend saturated and everybody gone, the next requests find it as if nothing had been."""

    async def slow(wire: Wire) -> None:
        while True:
            await wire.request()
            await trio.sleep(1)
            await wire.reply()

    async with door.stage(slow, {"pool": {"max_connections": 10}}) as stage:
        for n in range(leavers):
            call = await stage.open("GET", USERS)
            await trio.sleep(0.01 * (n % 7))
            await call.leave()
        assert await stopped(stage) <= SOON
        assert [(await stage.get()).status for _ in range(20)] == [200] * 20
        assert stage.target().breaker.failure_count == 0
