"""Each wait has its own timer, each timer its own answer, and none is late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.doors import push, read_cut
from tests.support.faults import fault
from tests.support.stage import USERS, Door, silent
from tests.support.upstream import Wire

DOORS = ("lane", "h2", "lane-tls")

PROMPT = 0.05  # seconds that an answer may come behind its timer


class Watch:
    """Measures virtual seconds."""

    def __init__(self) -> None:
        self.begun = trio.current_time()

    def shows(self, seconds: float, within: float = PROMPT) -> bool:
        return seconds <= trio.current_time() - self.begun < seconds + within


# ---- until the reply's head ---------------------------------------------------------------------------


@fault("U8")
@pytest.mark.parametrize("timeout", [0.2, 1, 30])
async def test_a_backend_that_never_answers_costs_its_timeout(door: Door, timeout: float) -> None:
    """504 at `timeout`, and the connection is given up."""
    async with door.stage(silent, {"timeout": timeout}) as stage:
        watch = Watch()
        answer = await stage.get()
        assert answer.status == 504
        assert watch.shows(timeout)
        assert stage.open_upstream() == 0
        assert stage.target().breaker.failure_count == 1


async def test_a_head_that_drips_does_not_move_the_deadline(door: Door) -> None:
    """Only the whole head ends the wait for it."""

    async def dripping(wire: Wire) -> None:
        await wire.request()
        for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
            await trio.sleep(1)
            await wire.send(bytes((octet,)))

    async with door.stage(dripping, {"timeout": 5}) as stage:
        watch = Watch()
        assert (await stage.get()).status == 504
        assert watch.shows(5)


@fault("U1")
@pytest.mark.parametrize(
    ("config", "seconds", "code"),
    [
        ({"timeouts": {"connect": 2}}, 2, "connect_timeout"),
        ({"timeouts": {"connect": 5}, "timeout": 3}, 3, "upstream_timeout"),
    ],
)
async def test_connecting_has_a_timer_of_its_own(
    door: Door, config: Mapping[str, Any], seconds: float, code: str
) -> None:
    """A target that swallows packets: 504 at `timeouts.connect`, or at `timeout` if that is sooner."""
    async with door.stage(endpoint=config) as stage:
        stage.network.hang.add(stage.backend.address)
        watch = Watch()
        assert (await stage.get()).status == 504
        assert watch.shows(seconds)
        assert await stage.reasons() == [code]
        assert stage.target().breaker.failure_count == 1


@fault("C10")
@fault("rule 10")
async def test_a_hung_backend_keeps_nobody_else_waiting(door: Door) -> None:
    """Five hundred wait for one endpoint in vain, each for its `timeout`; another answers at once."""
    hung = {"url": "http://hung.example/", "name": "hung", "timeout": 10, "pool": {"max_connections": 8}}
    async with door.stage(others=[hung]) as stage:
        await stage.serve(silent, "hung.example")
        watch = Watch()
        callers = [await stage.connect() for _ in range(500 if door.name == "lane" else 10)]
        calls = [await callers[n % len(callers)].open("GET", "/orchestrator/hung") for n in range(500)]
        await trio.sleep(1)
        for _ in range(20):
            quick = Watch()
            assert (await stage.get()).status == 200
            assert quick.shows(0)
        assert {(await call.answer()).status for call in calls} == {504}
        assert watch.shows(10)


async def test_waiting_for_a_place_in_the_pool_is_waiting(door: Door) -> None:
    """`timeout` covers the queue for a connection; who leaves the queue takes nothing along."""

    async def slow(wire: Wire) -> None:
        while True:
            await wire.request()
            await trio.sleep(3)
            await wire.reply()

    config = {"pool": {"max_connections": 1}, "timeout": 4}
    async with door.stage(slow, config) as stage:
        watch = Watch()
        calls = [await stage.open("GET", USERS)]
        await trio.testing.wait_all_tasks_blocked()  # of those that come together, chance takes the first
        calls += [await stage.open("GET", USERS) for _ in range(2)]
        assert (await calls[0].answer()).status == 200
        assert watch.shows(3)
        assert [(await call.answer()).status for call in calls[1:]] == [504, 504]
        assert watch.shows(4)
        await trio.sleep(3)
        assert (await stage.get()).status == 200
        assert stage.target().pool.statistics().active == 0


# ---- while the body goes up ---------------------------------------------------------------------------


async def test_every_piece_that_the_backend_takes_rearms_its_timeout(door: Door) -> None:
    """An upload may take longer than `timeout` while it moves; each piece starts its clock anew."""

    async def taking(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(1.5)
        await wire.reply()
        await wire.closed()

    async with door.stage(taking, {"timeout": 2}) as stage:
        call = await stage.open("POST", USERS, stream=True)
        for _ in range(5):
            await trio.sleep(1.5)
            await call.send(b"x" * 1000)
        await call.end()
        assert (await call.answer()).status == 200


@fault("rule 4")
async def test_a_backend_that_takes_nothing_costs_its_timeout(door: Door) -> None:
    """An upload that stalls because of the backend is a 504 of the backend's making."""

    async def deaf(wire: Wire) -> None:
        await trio.sleep(60)

    async with door.stage(deaf, {"timeout": 2}) as stage:
        call = await stage.open("POST", USERS, length=50_000_000)
        watch = Watch()
        stage.nursery.start_soon(push, call, b"x" * 50_000, 1000)
        assert (await call.answer()).status == 504
        assert watch.shows(2)
        assert stage.target().breaker.failure_count == 1


@fault("C3")
async def test_a_client_that_stops_its_upload_is_told(door: Door) -> None:
    """408 at `server.timeouts.body_idle`, whatever the endpoint's `timeout`, and nobody's failure."""
    server = {"timeouts": {"body_idle": 7}}
    async with door.stage(silent, {"timeout": 2}, server=server) as stage:
        call = await stage.open("POST", USERS, length=100)
        await call.send(b"x" * 10)
        watch = Watch()
        assert (await call.answer()).status == 408
        assert watch.shows(7)
        assert stage.target().breaker.failure_count == 0
        assert stage.open_upstream() == 0


@fault("C3")
async def test_a_client_that_drips_its_upload_is_cut(door: Door) -> None:
    """`min_rate` ends what each idle timer would let pass, after five seconds of grace."""
    async with door.stage(silent, server={"limits": {"min_rate": 100}}) as stage:
        call = await stage.open("POST", USERS, length=100_000)
        watch = Watch()
        stage.nursery.start_soon(push, call, b"x" * 20, 100, 1.0)
        assert (await call.answer()).status == 408
        assert watch.shows(7)
        assert stage.target().breaker.failure_count == 0


async def test_total_bounds_an_upload_too(door: Door) -> None:
    """`timeouts.total` passes, though every other timer is content: 504."""
    async with door.stage(silent, {"timeouts": {"total": 3}}) as stage:
        call = await stage.open("POST", USERS, length=1_000_000)
        watch = Watch()
        stage.nursery.start_soon(push, call, b"x" * 20, 100, 1.0)
        assert (await call.answer()).status == 504
        assert watch.shows(3)
        assert await stage.reasons() == ["total_timeout"]
        assert stage.target().breaker.failure_count == 0


# ---- behind the reply's head ----------------------------------------------------------------------------


async def trickle(wire: Wire, seconds: float, pieces: int) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % pieces)
    for _ in range(pieces):
        await trio.sleep(seconds)
        await wire.send(b"x")
    await wire.closed()


@fault("U8")
async def test_a_reply_may_drip_for_as_long_as_it_likes(door: Door) -> None:
    """Neither `timeout` nor `idle` nor `min_rate` judges a backend that says something now and then."""
    config = {"timeout": 1, "timeouts": {"idle": 10}}
    async with door.stage(lambda wire: trickle(wire, 9, 20), config) as stage:
        assert (await stage.get()).body == b"x" * 20


@fault("U8")
async def test_silence_inside_a_reply_is_cut_at_idle(door: Door) -> None:
    """The client sees the cut; the access line and the breaker know whose fault it was."""

    async def stalling(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await wire.closed()

    async with door.stage(stalling, {"timeouts": {"idle": 5}}) as stage:
        call = await stage.open("GET", USERS)
        assert (await call.head()).status == 200
        watch = Watch()
        assert await read_cut(call) == b"abc"
        assert watch.shows(5)
        assert await stage.reasons() == ["upstream_stalled"]
        assert stage.target().breaker.failure_count == 1
        assert stage.open_upstream() == 0


@fault("U8")
async def test_total_cuts_a_reply_that_never_ends(door: Door) -> None:
    """When it is set, it bounds the whole exchange."""
    config = {"timeouts": {"total": 10}}
    async with door.stage(lambda wire: trickle(wire, 1, 100), config) as stage:
        watch = Watch()
        call = await stage.open("GET", USERS)
        await call.head()
        assert len(await read_cut(call)) in (9, 10)
        assert watch.shows(10)
        assert await stage.reasons() == ["total_timeout"]


# ---- while the client reads -----------------------------------------------------------------------------


async def flood(wire: Wire) -> None:
    """More than any buffer between here and the client can hold."""
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
    for _ in range(500):
        await wire.send(b"x" * 100_000)
    await wire.closed()


@fault("C4")
@fault("rule 4")
async def test_a_client_that_stops_reading_is_cut(door: Door) -> None:
    """At `server.timeouts.write`, though the backend's `idle` and `total` are longer; nobody's failure."""
    async with door.stage(flood, {"timeout": 1}, server={"timeouts": {"write": 8}}) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        await trio.sleep(7.9)
        assert len(stage.gateway.runtime.in_flight) == 1
        await trio.sleep(0.2)
        assert await stage.reasons() == ["client_stalled"]
        assert stage.open_upstream() == 0
        assert stage.target().breaker.failure_count == 0


async def test_a_client_that_reads_too_slowly_is_cut(door: Door) -> None:
    """`min_rate` counts what waits for the client: each read comes in time, and all together are too slow."""
    async with door.stage(flood, server={"limits": {"min_rate": 1_000_000}}) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        await read_cut(call, pause=2)
        assert await stage.reasons() == ["client_stalled"]
        (line,) = await stage.lines()
        assert 5 < line.duration < 60
        assert stage.target().breaker.failure_count == 0


async def test_a_client_that_reads_steadily_is_not_judged_by_the_backend_s_pace(door: Door) -> None:
    """`min_rate` counts no second that the backend kept us both waiting."""
    config = {"timeouts": {"idle": 100}}
    async with door.stage(lambda wire: trickle(wire, 60, 5), config) as stage:
        assert (await stage.get()).body == b"xxxxx"


async def test_an_upload_beside_a_slow_reader_charges_no_backend(door: Door) -> None:
    """While the reply waits for its client no piece of the upload starts the backend's clock."""
    size = 2_000_000

    async def answering_early(wire: Wire) -> None:
        head = await wire.head()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.send, bytes(size))
            await wire.body(head)

    async with door.stage(answering_early, {"timeouts": {"idle": 1}}) as stage:
        call = await stage.open("POST", USERS, length=500)
        for _ in range(5):
            await trio.sleep(0.5)
            await call.send(bytes(100))
        await trio.sleep(5)
        assert len((await call.answer()).body) == size
        assert await stage.reasons() == ["completed"]
        assert stage.target().breaker.failure_count == 0
