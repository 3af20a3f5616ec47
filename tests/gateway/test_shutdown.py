"""Stopping: what was begun is finished, nothing new is, and no peer can put off the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from attrs import frozen

from tests.support.client import Answer
from tests.support.doors import Call, Caller, Cut, push
from tests.support.faults import fault
from tests.support.stage import USERS, Door, Stage, silent
from tests.support.upstream import Script, Wire, answering

DOORS = ("lane", "h2", "lane-tls", "h2-tls")

SHUTDOWN = {"delay": 2, "drain": 5}
DELAY, DRAIN, SLACK = 2, 5, 1


async def time_to_end(stage: Stage) -> float:
    """Virtual seconds until the gateway has stopped."""
    begun = trio.current_time()
    with trio.fail_after(60):
        await stage.ended.wait()
    return trio.current_time() - begun


async def let_go(callers: list[Caller]) -> None:
    """Close each connection when the gateway has."""
    for caller in callers:
        await caller.closed()
        caller.vanish()


async def slow(wire: Wire) -> None:
    """Answers after four seconds."""
    while True:
        await wire.request()
        await trio.sleep(4)
        await wire.reply(b"at last")


async def test_a_gateway_with_nothing_to_do_ends_behind_its_delay(door: Door) -> None:
    """Idle connections close; they are no reason to wait."""
    async with door.stage(shutdown=SHUTDOWN) as stage:
        callers = [await stage.connect() for _ in range(3)]
        for caller in callers:
            await caller.fetch("GET", USERS)
        stage.gateway.stop()
        begun = trio.current_time()
        await let_go(callers)
        await stage.ended.wait()
        assert DELAY <= trio.current_time() - begun < DELAY + SLACK


@fault("S1")
async def test_what_was_begun_is_finished(door: Door) -> None:
    """Requests in flight get their whole reply, and their connections end behind it."""
    async with door.stage(slow, shutdown=SHUTDOWN) as stage:
        callers = [await stage.connect() for _ in range(5)]
        calls = [await caller.open("GET", USERS) for caller in callers]
        await trio.sleep(0.5)
        stage.gateway.stop()
        begun = trio.current_time()
        answers = [await call.answer() for call in calls]
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"at last")] * 5
        assert trio.current_time() - begun < 4
        if door.name == "lane":
            assert all(answer.values("connection") == ["close"] for answer in answers)
        await let_go(callers)
        assert await time_to_end(stage) < SLACK


@fault("S1")
async def test_all_goes_on_for_the_delay(door: Door) -> None:
    """New connections and new requests are served until the listeners close; then nobody is let in."""
    async with door.stage(shutdown=SHUTDOWN) as stage:
        old = await stage.connect()
        await old.fetch("GET", USERS)
        stage.gateway.stop()
        await trio.sleep(DELAY - 0.5)
        answers: list[Answer] = [await old.fetch("GET", USERS), await stage.get()]
        assert [answer.status for answer in answers] == [200, 200]
        if door.name == "lane":
            assert [answer.values("connection") for answer in answers] == [["close"]] * 2
        await trio.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            await stage.connect()


async def test_h2_clients_are_told_which_request_was_the_last(h2: Door) -> None:
    """GOAWAY first announces, then names the last stream; what comes behind it is refused, not lost."""
    async with h2.stage(slow, shutdown={"delay": 0, "drain": 10}) as stage:
        caller = await stage.connect()
        call = await caller.open("GET", USERS)
        await trio.sleep(0.5)
        stage.gateway.stop()
        await trio.sleep(2)
        late = await caller.open("GET", USERS)
        with pytest.raises(Cut):
            await late.answer()
        assert (await call.answer()).status == 200
        assert stage.backend.connections == 1
        await caller.closed()


# ---- peers that would not let it end ------------------------------------------------------------------


async def flood(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while True:
        await wire.send(b"x" * 50_000)


async def events(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    while True:
        await trio.sleep(1)
        await wire.send(b"data: x\n\n")


async def get(stage: Stage) -> Call:
    return await stage.open("GET", USERS)


async def stalled_upload(stage: Stage) -> Call:
    call = await stage.open("POST", USERS, length=1000)
    await call.send(b"x")
    return call


async def connecting(stage: Stage) -> Call:
    stage.network.hang.add(stage.backend.address)
    return await stage.open("GET", USERS)


async def pushing(stage: Stage) -> Call:
    call = await stage.open("POST", USERS, length=100_000_000)
    stage.nursery.start_soon(push, call, b"x" * 50_000, 2000)
    return call


async def deaf(wire: Wire) -> None:
    await trio.sleep(1000)


@frozen
class Nuisance:
    """A peer that does not end by itself; `told` is the status that its client still can get."""

    name: str
    script: Script
    begin: Callable[[Stage], Awaitable[Call]]
    told: int | None


NUISANCES = [
    Nuisance("never answers", silent, get, 503),
    Nuisance("never connects", answering, connecting, 503),
    Nuisance("never reads", flood, get, None),
    Nuisance("streams for ever", events, get, None),
    Nuisance("never ends its upload", silent, stalled_upload, 503),
    Nuisance("never takes an upload", deaf, pushing, 503),
]


@fault("S1")
@pytest.mark.parametrize("nuisance", NUISANCES, ids=lambda nuisance: nuisance.name)
async def test_no_peer_puts_off_the_end(door: Door, nuisance: Nuisance) -> None:
    """It comes within delay + drain + 1 s; where an answer is possible, there is one, else a visible cut."""
    config = {"timeout": 100, "timeouts": {"connect": 100}}
    async with door.stage(nuisance.script, config, shutdown=SHUTDOWN) as stage:
        call = await nuisance.begin(stage)
        await trio.sleep(1)
        stage.gateway.stop()
        ended = await time_to_end(stage)
        assert DELAY + DRAIN <= ended <= DELAY + DRAIN + SLACK
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["shutting_down"]
        if nuisance.told is not None:
            assert (await call.answer()).status == nuisance.told
        else:
            with pytest.raises(Cut):
                await call.answer()
        assert stage.target().breaker.failure_count == 0


@pytest.mark.parametrize("nuisance", NUISANCES, ids=lambda nuisance: nuisance.name)
@pytest.mark.parametrize("after", [1.0, 4.0], ids=["in the delay", "in the drain"])
async def test_a_second_word_ends_it_at_once(door: Door, nuisance: Nuisance, after: float) -> None:
    """`stop` said twice cancels what is left, and each exchange is still recorded."""
    config = {"timeout": 100, "timeouts": {"connect": 100}}
    async with door.stage(nuisance.script, config, shutdown=SHUTDOWN) as stage:
        await nuisance.begin(stage)
        await trio.sleep(1)
        stage.gateway.stop()
        await trio.sleep(after)
        stage.gateway.stop()
        assert await time_to_end(stage) < 0.1
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["shutting_down"]


async def test_clients_that_say_nothing_are_no_reason_to_wait(door: Door) -> None:
    """A connection without a request, and one with half a head, end with the listeners or soon behind."""
    async with door.stage(shutdown=SHUTDOWN) as stage:
        quiet = await stage.connect()
        half = await stage.world.client()
        await half.send(b"GET /orchestrator/users HTTP/1.1\r\nHo")
        await trio.sleep(0.5)
        stage.gateway.stop()
        assert await time_to_end(stage) <= DELAY + DRAIN + SLACK
        await quiet.closed()
