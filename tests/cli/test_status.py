"""`trio-gateway status`."""

from __future__ import annotations

import json

import trio.testing

from tests.cli.conftest import Call
from tests.cli.operated import CONFIG, FILE, edit, operated

_DELAYED = CONFIG + "shutdown: {{delay: 30s, drain: 1s}}\n"


async def test_it_shows_the_whole_on_one_page(call: Call) -> None:
    """Where it is, its file, its endpoints, their health, breakers and requests."""
    async with operated(call) as found:
        await found.run("breaker", "trip", "users")
        result = await found.run("status")
    assert result.exit_code == 0
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert lines["gateway"] == f"ready at {found.url}"
    assert lines["config"] == f"{FILE}, endpoints in it: 2"
    assert lines["endpoints"] == "2: 1 active, 1 disabled"
    assert lines["health"] == "unhealthy: 1 of 1 watched endpoints are healthy"
    assert lines["breakers"] == "1 open, 0 half open of 1 used"
    assert lines["requests"] == "0, 0 in flight"


async def test_requests_are_counted_by_status(call: Call) -> None:
    """Those that had no route are among them."""
    async with operated(call) as found:
        assert await found.fetch("/orchestrator/users") == 200
        assert await found.fetch("/orchestrator/nobody") == 404
        result = await found.run("status")
    assert result.stdout.splitlines()[-1].split(None, 1)[1] == "2 (1 2xx, 1 4xx), 0 in flight"


async def test_json_is_what_the_api_says(call: Call) -> None:
    """Each part is a document of the management API."""
    async with operated(call) as found:
        told = await found.told("status")
    assert told["readiness"] == "ready"
    assert told["config"]["config_path"] == FILE
    assert told["registry"]["disabled"] == 1
    assert told["health"]["summary"]["total_endpoints"] == 1
    assert told["requests"]["total_requests"] == 0


async def test_a_file_that_is_not_used_is_named(call: Call) -> None:
    """With the place of every mistake, and the gateway goes on with what it had."""
    async with operated(call) as found:
        edit("name: users", "name: 'us ers'")
        edit("name: gone", "name: 'go ne'")
        assert (await found.run("reload")).exit_code == 1
        result = await found.run("status")
    unused = [line for line in result.stdout.splitlines() if line.startswith("not used")]
    assert [line.split()[2].split(":")[1] for line in unused] == ["5", "6"]
    assert "endpoints in it: 2" in result.stdout


async def test_a_gateway_that_stops_says_so(call: Call) -> None:
    """While it drains it can still be asked."""
    async with operated(call, _DELAYED) as found:
        found.gateway.stop()
        await trio.testing.wait_all_tasks_blocked()
        result = await found.run("status")
        told = json.loads((await found.run("status", "--json")).stdout)
    assert result.stdout.startswith("gateway    draining at ")
    assert told["readiness"] == "draining"
