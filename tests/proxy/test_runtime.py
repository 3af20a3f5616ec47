"""The current plan and what a change of config leaves alone."""

from __future__ import annotations

import pytest
import trio

from tests.support.client import request
from tests.support.gateway import World, world
from tests.support.upstream import Wire, answering
from trio_gateway.config.load import parse_config
from trio_gateway.domain.breaker import State
from trio_gateway.errors import ConfigError
from trio_gateway.proxy.upstream import Upstream

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST]}
"""


def reload(here: World, text: str) -> Upstream:
    """Apply another config; the upstream of `users` then."""
    here.gateway.runtime.apply(parse_config(text, "test.yaml", {}).require())
    return here.gateway.runtime.upstreams["users"]


@pytest.mark.parametrize(
    ("old", "new", "pool", "breaker"),
    [
        ("", "", True, True),
        ("[GET, POST]", "[GET]", True, True),
        ("failure_threshold: 1", "failure_threshold: 2", True, False),
        ("http://backend.example/", "http://other.example/", False, True),
        ("name: users,", "name: users, pool: {max_idle: 1},", False, True),
        ("name: users,", "name: users, timeouts: {connect: 1s},", False, True),
        ("name: users,", "name: users, timeouts: {idle: 1s},", True, True),
        ("name: users,", "name: users, version: v1,", True, True),
    ],
)
async def test_live_state_outlives_what_does_not_touch_it(
    old: str, new: str, pool: bool, breaker: bool, autojump_clock: object
) -> None:
    """The pool hangs on its target, the breaker on its settings, the numbers on the id alone."""
    async with world(CONFIG) as here:
        await here.get(USERS)
        before = here.gateway.runtime.upstreams["users"]
        held = (before.pool, before.breaker, before.stats)
        after = reload(here, CONFIG.replace(old, new))
        assert (after.pool is held[0], after.breaker is held[1]) == (pool, breaker)
        assert after.stats is held[2]
        assert sum(after.stats.requests.values()) == 1
        await trio.sleep(0.1)
        assert here.backend.open == int(pool)  # an abandoned pool keeps nothing open


async def test_an_endpoint_that_is_gone_finishes_what_it_carries(autojump_clock: object) -> None:
    """Then its connection closes; its numbers are forgotten."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(2)
        await wire.reply()
        await wire.closed()

    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(1)
        here.gateway.runtime.apply(parse_config("endpoints: []", "test.yaml", {}).require())
        assert (await client.answer()).status == 200
        await trio.sleep(0.1)
        assert here.backend.open == 0
        assert "users" not in here.gateway.runtime.metrics.endpoints()
        assert (await client.get(USERS)).status == 404


async def test_an_unusable_config_changes_nothing(autojump_clock: object) -> None:
    """Neither plan nor upstreams, though other endpoints of it would do."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        plan, upstreams = runtime.plan, dict(runtime.upstreams)
        bad = CONFIG + '  - {url: "https://x.example/", name: x, tls: {ca: /nowhere}}\n'
        with pytest.raises(ConfigError, match="x: tls"):
            runtime.apply(parse_config(bad, "test.yaml", {}).require())
        assert runtime.plan is plan
        assert dict(runtime.upstreams) == upstreams
        assert (await here.get(USERS)).status == 200


async def test_changes_of_the_breaker_are_events(autojump_clock: object) -> None:
    """With their cause, and the gauge follows."""

    async def script(wire: Wire) -> None:
        await wire.request()
        if here.backend.connections > 1:
            await wire.reply()

    async with world(CONFIG, script) as here:
        await here.get(USERS)
        await trio.sleep(60)
        await here.get(USERS)
        runtime = here.gateway.runtime
        seen = [
            (event.cause, event.details["before"], event.details["after"])
            for event in reversed(runtime.events.recent())
        ]
        assert [(before, after) for _, before, after in seen] == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]
        assert all(cause for cause, _, _ in seen)
        assert runtime.metrics.endpoint("users").breaker_state is State.CLOSED


async def test_the_sweep_closes_aged_connections(autojump_clock: object) -> None:
    """Each second, without any request."""
    async with world(CONFIG, answering) as here:
        await here.get(USERS)
        await trio.sleep(3.5)
        assert here.backend.open == 1
        await trio.sleep(2)
        assert here.backend.open == 0
