"""The current plan and what a change of config leaves alone."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from weakref import ref

import pytest
import trio
from attrs import evolve

from tests.support.client import request
from tests.support.gateway import World, unprobed, world
from tests.support.upstream import Wire, answering
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import EndpointConfig, EndpointTls, MatchConfig
from trio_gateway.domain.breaker import State
from trio_gateway.domain.registry import EndpointConflict, EndpointNotFound
from trio_gateway.errors import ConfigError
from trio_gateway.proxy.upstream import Upstream

USERS = "/orchestrator/users"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADDED = EndpointConfig("http://backend.example/added", "added")
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST]}
"""


def reload(here: World, text: str) -> Upstream:
    """Apply another config; the upstream of `users` then."""
    here.gateway.runtime.apply(unprobed(parse_config(text, "test.yaml", {}).require()))
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


# ---- endpoints that come and go at runtime ------------------------------------------------------------


async def test_an_endpoint_registers_and_leaves(autojump_clock: object) -> None:
    """It routes at once, and no longer when it is gone; its numbers go with it."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        entry = runtime.register(ADDED, NOW)
        assert (entry.id, entry.source, entry.registration_time) == ("added", "api", NOW)
        assert (await here.get("/orchestrator/added/x")).status == 200
        assert runtime.unregister("added") is entry
        assert (await here.get("/orchestrator/added/x")).status == 404
        assert set(runtime.upstreams) == {"users"} == set(runtime.metrics.endpoints()) - {""}
        await trio.sleep(0.1)
        assert here.backend.open == 0


async def test_a_change_leaves_the_others_compiled(autojump_clock: object) -> None:
    """An endpoint that a change does not concern is the same object in the next plan."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        users = runtime.plan.endpoints["users"]
        runtime.register(ADDED, NOW)
        added = runtime.plan.endpoints["added"]
        reload(here, CONFIG)
        assert runtime.plan.endpoints == {"users": users, "added": added}
        reload(here, CONFIG + "tracing: {request_id_header: X-Trace}\n")
        assert runtime.plan.endpoints["users"] is not users
        assert runtime.plan.endpoints["users"].upstream is users.upstream


async def test_the_order_of_endpoints(autojump_clock: object) -> None:
    """The file's in the file's order, then the API's by registration: it decides between equal routes."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        runtime.register(evolve(ADDED, name="late", url="http://l/"), NOW + timedelta(seconds=1))
        runtime.register(evolve(ADDED, name="early", url="http://e/"), NOW)
        assert list(runtime.plan.endpoints) == ["users", "early", "late"]
        first = '  - {url: "http://first/", name: first}\n'
        reload(here, CONFIG.replace("endpoints:\n", "endpoints:\n" + first))
        assert list(runtime.plan.endpoints) == ["first", "users", "early", "late"]
        runtime.rebuild()
        assert list(runtime.plan.endpoints) == ["first", "users", "early", "late"]


async def test_the_file_wins_on_an_id(autojump_clock: object) -> None:
    """A registration that the file takes over is the file's, and goes with it."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        runtime.register(ADDED, NOW)
        reload(here, CONFIG + '  - {url: "http://of-the-file/", name: added}\n')
        assert runtime.plan.endpoints["added"].config.url == "http://of-the-file/"
        reload(here, CONFIG)
        assert list(runtime.plan.endpoints) == ["users"]


async def test_sync_is_what_the_file_says(autojump_clock: object) -> None:
    """Registrations go, what was taken away comes back, and updates are undone."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        runtime.register(ADDED, NOW)
        runtime.unregister("users")
        assert list(runtime.plan.endpoints) == ["added"]
        result = runtime.sync()
        assert (result.added, result.updated, result.removed) == (("users",), (), ("added",))
        assert list(runtime.plan.endpoints) == ["users"]
        assert (await here.get(USERS)).status == 200


async def test_a_status_counts_at_once(autojump_clock: object) -> None:
    """No plan is swapped for it: whoever is routed sees it."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        plan = runtime.plan
        runtime.set_status("users", "disabled")
        assert (await here.get(USERS)).status == 503
        runtime.set_status("users", "active")
        assert (await here.get(USERS)).status == 200
        assert runtime.plan is plan


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (evolve(ADDED, name="users"), EndpointConflict),
        (EndpointConfig("http://backend.example/", "other"), EndpointConflict),
        (evolve(ADDED, name="twin", url="http://twin/", match=MatchConfig("/same")), EndpointConflict),
        (EndpointConfig("https://t/", "t", tls=EndpointTls(ca="/nowhere")), ConfigError),
    ],
)
async def test_a_refused_endpoint_changes_nothing(
    config: EndpointConfig, error: type[Exception], autojump_clock: object
) -> None:
    """Another url for an id, another id for a url, a `match` that exists, files that can't be read."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        runtime.register(evolve(ADDED, match=MatchConfig("/same")), NOW)
        plan, entries = runtime.plan, list(runtime.registry)
        with pytest.raises(error):
            runtime.register(config, NOW)
        assert runtime.plan is plan
        assert list(runtime.registry) == entries
        with pytest.raises(EndpointNotFound):
            runtime.unregister("nobody")
        assert runtime.plan is plan


async def test_subscribers_hear_of_every_change(autojump_clock: object) -> None:
    """When they are called the new plan is in force."""
    async with world(CONFIG) as here:
        runtime, heard = here.gateway.runtime, []
        runtime.subscribe(lambda: heard.append(sorted(runtime.plan.endpoints)))
        runtime.register(ADDED, NOW)
        runtime.set_status("users", "disabled")
        runtime.unregister("added")
        reload(here, CONFIG)
        runtime.sync()
        assert heard == [["added", "users"], ["added", "users"], ["users"], ["users"], ["users"]]


async def test_a_change_in_slices_is_swapped_once(autojump_clock: object) -> None:
    """Requests are served in between, by the old plan as a whole; a cancellation comes too late."""
    many = CONFIG + "".join(f'  - {{url: "http://h{number}/", name: n{number}}}\n' for number in range(2000))
    config = parse_config(many, "test.yaml", {}).require()
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        seen = set()

        async def look() -> None:
            while True:
                seen.add(len(runtime.plan.endpoints))
                turns.append(trio.current_time())
                await trio.lowlevel.checkpoint()

        turns: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.lowlevel.checkpoint()
            with trio.CancelScope() as scope:
                scope.cancel()
                result = await runtime.apply_in_slices(config)
            assert len(result.added) == 2000
            assert len(turns) > 5
            assert seen <= {1, 2001}
            nursery.cancel_scope.cancel()
        assert len(runtime.plan.endpoints) == 2001
        assert (await here.get(USERS)).status == 200


async def test_what_goes_is_freed_without_the_collector(autojump_clock: object) -> None:
    """`run` freezes what there is at the start: circles in it would stay for ever."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        upstream, endpoint = runtime.upstreams["users"], runtime.plan.endpoints["users"]
        watched = [ref(each) for each in (upstream, upstream.breaker, upstream.pool, endpoint, runtime.plan)]
        del upstream, endpoint
        gc.disable()
        try:
            runtime.apply(unprobed(parse_config("endpoints: []", "test.yaml", {}).require()))
            await trio.sleep(5)
            assert [each() for each in watched] == [None] * 5
        finally:
            gc.enable()


async def test_a_reload_costs_what_it_changes(autojump_clock: object) -> None:
    """Of a hundred endpoints ninety-nine are the same objects: nothing of them is compared, made or moved."""
    text = "endpoints:\n" + "".join(f"  - {{url: 'http://b/{n}', name: e{n}}}\n" for n in range(100))
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        first = parse_config(text, "test.yaml", {})
        runtime.apply(first.require())
        before = dict(runtime.plan.endpoints)
        second = parse_config(text.replace("b/50", "c/50"), "test.yaml", {}, first.recall)
        runtime.apply(second.require())
        after = runtime.plan.endpoints
        assert [id_ for id_ in after if after[id_] is not before[id_]] == ["e50"]
        pairs = zip(first.config.endpoints, second.config.endpoints, strict=True)
        assert sum(one is not other for one, other in pairs) == 1
