"""A new config is swapped in whole: what it leaves alone does not notice."""

from __future__ import annotations

from typing import Any

import trio

from tests.support.gateway import unprobed
from tests.support.moody import Moody
from tests.support.stage import OK, USERS, Door, Stage, config_text, silent
from tests.support.upstream import Wire
from trio_gateway.config.load import parse_config
from trio_gateway.domain.breaker import State

OTHER = {"url": "http://other.example/", "name": "other"}


def reload(stage: Stage, endpoint: dict[str, Any] | None = None, **more: Any) -> None:
    """Make another config the current one."""
    config = parse_config(config_text(endpoint, **more), "test.yaml", {}).require()
    stage.gateway.runtime.apply(unprobed(config))


async def test_an_endpoint_that_did_not_change_keeps_all_it_has(door: Door) -> None:
    """Idle connections, the breaker's memory, counters."""
    moody = Moody(b"")
    async with door.stage(moody, others=[OTHER]) as stage:
        caller = await stage.connect()
        await caller.fetch("GET", USERS)
        moody.reply = OK
        await caller.fetch("GET", USERS)
        moody.reply = b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n"
        await caller.fetch("GET", USERS)
        before = stage.target()
        reload(stage, others=[{**OTHER, "timeout": 3}])
        assert stage.target().breaker.failure_count == 1
        assert stage.target().pool is before.pool
        moody.reply = OK
        assert (await caller.fetch("GET", USERS)).status == 200
        assert stage.backend.connections == 2
        assert sum(stage.target().stats.requests.values()) == 4


async def test_a_change_holds_from_the_next_request_on(door: Door) -> None:
    """New endpoints route, removed ones don't, changed ones are as they are now."""
    async with door.stage() as stage:
        await stage.serve(Moody(), "other.example")
        caller = await stage.connect()
        assert (await caller.fetch("GET", "/orchestrator/other")).status == 404
        reload(stage, {"methods": ["POST"]}, others=[OTHER])
        assert (await caller.fetch("GET", "/orchestrator/other")).status == 200
        assert (await caller.fetch("GET", USERS)).status == 405
        reload(stage)
        assert (await caller.fetch("GET", "/orchestrator/other")).status == 404
        assert (await caller.fetch("GET", USERS)).status == 200


async def test_another_prefix_holds_from_the_next_request_on(door: Door) -> None:
    """On a connection that is open already, too; what stood under the old one is gone."""
    async with door.stage() as stage:
        caller = await stage.connect()
        assert (await caller.fetch("GET", USERS)).status == 200
        reload(stage, server={"prefix": "/api"})
        assert (await caller.fetch("GET", "/api/users")).status == 200
        assert (await stage.get()).status == 404


async def test_an_exchange_keeps_the_plan_that_it_began_with(door: Door) -> None:
    """Its timeout, its headers, and its connection, though its endpoint moves or goes."""

    async def slow(wire: Wire) -> None:
        while True:
            await wire.request()
            await trio.sleep(5)
            await wire.reply(b"slow")

    marked = {"timeout": 6, "headers": {"response": {"set": {"X-Plan": "first"}}}}
    async with door.stage(slow, marked) as stage:
        calls = []
        changes = [
            {"timeout": 1, "headers": {"response": {"set": {"X-Plan": "second"}}}},
            {"url": "http://other.example/"},
            {"name": "elsewhere"},
        ]
        for change in changes:
            reload(stage, marked)
            calls.append(await stage.open("GET", USERS))
            await trio.sleep(0.1)
            reload(stage, change)
        for call in calls:
            answer = await call.answer()
            assert (answer.status, answer.body, answer.value("x-plan")) == (200, b"slow", "first")


async def test_streams_live_through_a_reload(door: Door) -> None:
    """An event stream goes on over any number of them."""

    async def events(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for n in range(5):
            await trio.sleep(1)
            await wire.send(b"%d" % n)

    async with door.stage(events) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        for n in range(5):
            assert await call.piece() == b"%d" % n
            reload(stage, {"timeout": n + 1})
        assert await call.piece() is None


async def test_a_target_that_moved_is_left(door: Door) -> None:
    """Idle connections to the old one close at once, those in use when they come back."""

    async def slow(wire: Wire) -> None:
        while True:
            received = await wire.request()
            await trio.sleep(2 if received.target == b"/slow" else 0)
            await wire.reply()

    async with door.stage(slow) as stage:
        other = await stage.serve(Moody(), "other.example")
        call = await stage.open("GET", USERS + "/slow")
        await trio.sleep(0.1)
        await stage.get()
        assert stage.open_upstream() == 2
        reload(stage, {"url": "http://other.example/"})
        assert stage.open_upstream() == 1
        assert (await stage.get()).status == 200
        assert other.connections == 1
        assert (await call.answer()).status == 200
        await stage.lines()
        assert stage.open_upstream() == 1


async def test_new_rules_make_a_new_breaker(door: Door) -> None:
    """Changed breaker settings begin closed; late words of the old one change nothing."""
    trap = {"circuit_breaker": {"failure_threshold": 1}}
    async with door.stage(silent, {**trap, "timeout": 2}) as stage:
        call = await stage.open("GET", USERS)
        await trio.sleep(1)
        old = stage.target().breaker
        reload(stage, {"circuit_breaker": {"failure_threshold": 2}, "timeout": 2})
        assert (await call.answer()).status == 504
        assert old.state is State.OPEN
        assert stage.target().breaker.state is State.CLOSED
        assert stage.target().breaker.failure_count == 0


async def test_a_reload_loses_no_request(door: Door) -> None:
    """A config a millisecond while requests run."""
    async with door.stage(others=[OTHER]) as stage:
        statuses: list[int] = []

        async def ask() -> None:
            caller = await stage.connect()
            for _ in range(20):
                statuses.append((await caller.fetch("GET", USERS)).status)
                await trio.sleep(0.003)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
            for n in range(60):
                await trio.sleep(0.001)
                reload(stage, {"timeout": n % 7 + 1}, others=[OTHER] * (n % 2))
        assert statuses == [200] * 200
