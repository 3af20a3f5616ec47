"""The circuit breaker in front of a backend: what counts, what does not, and how it recovers."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.support.doors import Call, read_cut
from tests.support.faults import fault
from tests.support.moody import Moody, status
from tests.support.stage import OK, USERS, Door, Stage
from trio_gateway.domain.breaker import State


def breaker(threshold: int = 2, **more: Any) -> dict[str, Any]:
    return {"timeout": 5, "circuit_breaker": {"failure_threshold": threshold, "reset_timeout": 10, **more}}


async def fail(stage: Stage, moody: Moody, times: int = 2, reply: bytes = b"") -> None:
    """Let `times` requests fail, then be good again."""
    before, moody.reply = moody.reply, reply
    for _ in range(times):
        assert (await stage.get()).status >= 500
    moody.reply = before


async def test_it_opens_after_failures_in_a_row(door: Door) -> None:
    """The threshold's failure opens it; then the backend is left alone and clients are told for how long."""
    moody = Moody()
    async with door.stage(moody, breaker(3)) as stage:
        await fail(stage, moody, 2)
        assert (await stage.get()).status == 200  # and the count begins anew
        await fail(stage, moody, 3)
        requests = len(moody.seen)
        await trio.sleep(2.5)
        answer = await stage.get()
        assert answer.status == 503
        assert answer.value("retry-after") == "8"
        assert answer.value("x-circuit-breaker") == "fallback"
        assert len(moody.seen) == requests
        (event,) = stage.gateway.runtime.events.recent(kind="circuit_breaker")
        assert (event.endpoint_id, event.cause) == ("users", "failures in a row: 3")
        assert event.details == {"before": "closed", "after": "open"}


@pytest.mark.parametrize(
    ("failure_on", "reply", "counts"),
    [
        (None, status(502), True),
        (None, status(503), True),
        (None, status(504), True),
        (None, status(500), False),
        (None, status(429), False),
        (None, b"", True),
        (None, b"nonsense\r\n\r\n", True),
        (["5xx"], status(500), True),
        (["429"], status(429), True),
        (["connect", "timeout", "reset"], status(503), False),
        (["gateway_error"], b"", False),
    ],
)
async def test_what_counts_is_configured(
    door: Door, failure_on: list[str] | None, reply: bytes, counts: bool
) -> None:
    """`failure_on` names kinds of failure, classes of status and single ones."""
    more = {} if failure_on is None else {"failure_on": failure_on}
    async with door.stage(Moody(reply), breaker(1, **more)) as stage:
        await stage.get()
        assert stage.target().breaker.state is (State.OPEN if counts else State.CLOSED)


async def test_a_refused_connection_counts(door: Door) -> None:
    """So does one that times out."""
    async with door.stage(endpoint={"url": "http://nowhere.example/", **breaker(2)}) as stage:
        assert [(await stage.get()).status for _ in range(3)] == [502, 502, 503]


async def test_a_late_cut_is_one_more_failure(door: Door) -> None:
    """A reply that breaks off behind its head counts, though its head was settled as a success."""
    async with door.stage(Moody(), breaker(1)) as stage:
        stage.backend.script = truncating
        call = await stage.open("GET", USERS)
        assert (await call.head()).status == 200
        assert await read_cut(call) == b"abc"
        await stage.lines()
        assert stage.target().breaker.state is State.OPEN


async def truncating(wire: Any) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await trio.sleep(0.1)


async def test_clients_do_not_open_it(door: Door) -> None:
    """Departures and faults of clients are nobody's failure."""
    async with door.stage(Moody(None), {**breaker(1), "max_body_bytes": 10}) as stage:
        for _ in range(5):
            call = await stage.open("GET", USERS)
            await trio.sleep(1)
            await call.leave()
        upload = await stage.open("POST", USERS, stream=True)
        await upload.send(b"x" * 11)
        assert (await upload.answer()).status == 413
        await trio.sleep(1)
        assert stage.target().breaker.state is State.CLOSED
        assert stage.target().breaker.failure_count == 0
        assert sorted(await stage.reasons()) == ["client_gone"] * 5 + ["payload_too_large"]


# ---- recovery -----------------------------------------------------------------------------------------


async def test_it_recovers_by_itself(door: Door) -> None:
    """After `reset_timeout` a probe that succeeds closes it."""
    moody = Moody()
    async with door.stage(moody, breaker()) as stage:
        await fail(stage, moody)
        await trio.sleep(9.9)
        assert (await stage.get()).status == 503
        await trio.sleep(0.2)
        assert (await stage.get()).status == 200
        assert stage.target().breaker.state is State.CLOSED


async def test_a_probe_that_fails_reopens_it(door: Door) -> None:
    """And each reopening lasts longer, when `open_backoff` says so."""
    moody = Moody()
    async with door.stage(moody, breaker(open_backoff={"multiplier": 2, "max": 25})) as stage:
        await fail(stage, moody)
        for wait in (10, 20, 25, 25):
            await trio.sleep(wait - 0.1)
            assert (await stage.get()).status == 503
            await trio.sleep(0.1)
            await fail(stage, moody, 1)


async def together(stage: Stage, times: int) -> list[Call]:
    """Requests that are all on their way."""
    calls = [await stage.open("GET", USERS) for _ in range(times)]
    await trio.sleep(0.1)
    return calls


@fault("S6")
@pytest.mark.parametrize("probes", [1, 3, 7])
async def test_half_open_admits_exactly_its_probes(door: Door, probes: int) -> None:
    """Of a hundred requests at once, so many reach the backend and the rest get the breaker's answer."""
    moody = Moody()
    async with door.stage(moody, breaker(half_open_max_calls=probes, half_open_successes=probes)) as stage:
        await fail(stage, moody)
        await trio.sleep(10)
        moody.reply, before = None, len(moody.seen)
        calls = await together(stage, 100)
        assert len(moody.seen) - before == probes
        assert stage.target().breaker.half_open_calls == probes
        answers = sorted([(await call.answer()).status for call in calls])  # who comes first is chance
        assert answers == [503] * (100 - probes) + [504] * probes


@fault("S6")
async def test_it_closes_after_so_many_successes(door: Door) -> None:
    """`half_open_successes` probes must succeed; places come free as they settle."""
    moody = Moody()
    async with door.stage(moody, breaker(half_open_max_calls=1, half_open_successes=3)) as stage:
        await fail(stage, moody)
        await trio.sleep(10)
        for _ in range(3):
            assert stage.target().breaker.state is not State.CLOSED
            assert (await stage.get()).status == 200
        assert stage.target().breaker.state is State.CLOSED


async def test_an_abandoned_probe_gives_its_place_back(door: Door) -> None:
    """A probe whose client leaves decides nothing and is missed by nobody."""
    moody = Moody()
    async with door.stage(moody, breaker(half_open_max_calls=1)) as stage:
        await fail(stage, moody)
        await trio.sleep(10)
        moody.reply = None
        for _ in range(3):
            (call,) = await together(stage, 1)
            assert stage.target().breaker.half_open_calls == 1
            await call.leave()
            await trio.sleep(0.1)
            assert stage.target().breaker.half_open_calls == 0
            assert stage.target().breaker.state is State.HALF_OPEN
        moody.reply = OK
        assert (await stage.get()).status == 200


async def test_a_probe_that_never_settles_is_a_failure(door: Door) -> None:
    """At `half_open_max_wait` it counts, whatever the endpoint's own timeout."""
    moody = Moody()
    config = {**breaker(half_open_max_calls=1, half_open_max_wait=3), "timeout": 60}
    async with door.stage(moody, config) as stage:
        await fail(stage, moody)
        await trio.sleep(10)
        moody.reply = None
        await together(stage, 1)
        await trio.sleep(2.8)
        assert (await stage.get()).status == 503
        assert stage.target().breaker.state is State.HALF_OPEN
        await trio.sleep(0.2)
        assert (await stage.get()).status == 503
        assert stage.target().breaker.state is State.OPEN


async def test_a_result_from_before_an_outage_decides_nothing(door: Door) -> None:
    """A slow request that was admitted before the breaker opened neither closes nor reopens it."""
    moody = Moody(None)
    async with door.stage(moody, {**breaker(), "timeout": 13}) as stage:
        (old,) = await together(stage, 1)
        await fail(stage, moody)
        moody.reply = OK
        await trio.sleep(10)
        assert (await stage.get()).status == 200
        assert (await old.answer()).status == 504
        assert stage.target().breaker.state is State.CLOSED
        assert stage.target().breaker.failure_count == 0


# ---- rates and operators --------------------------------------------------------------------------------


async def test_a_rate_opens_it(door: Door) -> None:
    """With `failure_rate_threshold` failures need not come in a row."""
    moody = Moody()
    rate = {"failure_rate_threshold": 50, "minimum_number_of_calls": 6, "sliding_window": {"size": 10}}
    async with door.stage(moody, breaker(100, **rate)) as stage:
        for reply in (OK, status(503), OK, status(503), OK):
            moody.reply = reply
            await stage.get()
        assert stage.target().breaker.state is State.CLOSED
        await fail(stage, moody, 1)
        assert stage.target().breaker.state is State.OPEN


async def test_slow_calls_open_it(door: Door) -> None:
    """In rate mode replies that take too long count, too."""

    async def slow(wire: Any) -> None:
        while True:
            await wire.request()
            await trio.sleep(2)
            await wire.reply()

    rate = {
        "failure_rate_threshold": 50,
        "minimum_number_of_calls": 3,
        "slow_call_duration_threshold": 1,
        "slow_call_rate_threshold": 100,
    }
    async with door.stage(slow, breaker(100, **rate)) as stage:
        assert [(await stage.get()).status for _ in range(4)] == [200, 200, 200, 503]


async def test_operators_trip_and_reset_it(door: Door) -> None:
    """Tripped it stays open until it is reset."""
    async with door.stage(Moody(), breaker()) as stage:
        stage.target().breaker.trip(trio.current_time())
        await trio.sleep(1000)
        assert (await stage.get()).status == 503
        stage.target().breaker.reset(trio.current_time())
        assert (await stage.get()).status == 200
        assert [event.cause for event in stage.gateway.runtime.events.recent()] == ["operator", "operator"]


async def test_refused_uploads_do_not_hang(door: Door) -> None:
    """A body that nobody will read gets its answer at once."""
    async with door.stage(Moody(), breaker()) as stage:
        stage.target().breaker.trip(trio.current_time())
        call = await stage.open("POST", USERS, length=1_000_000)
        begun = trio.current_time()
        assert (await call.answer()).status == 503
        assert trio.current_time() - begun < 0.05
