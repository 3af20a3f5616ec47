"""`trio-gateway breaker`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Call
from tests.cli.operated import operated
from trio_gateway.domain.breaker import State


async def test_a_trip_opens_and_a_reset_closes(call: Call) -> None:
    """In force when the verb ends."""
    async with operated(call) as found:
        breaker = found.gateway.runtime.upstreams["users"].breaker
        tripped = await found.run("breaker", "trip", "users")
        assert breaker.state is State.OPEN
        reset = await found.run("breaker", "reset", "users")
        assert breaker.state is State.CLOSED
    assert tripped.stdout == "users: the circuit breaker is open, until it is reset\n"
    assert reset.stdout == "users: the circuit breaker is closed\n"


async def test_json_is_the_api_s_answer(call: Call) -> None:
    """With the breaker as it is now."""
    async with operated(call) as found:
        told = await found.told("breaker", "trip", "users")
    assert told["success"] is True
    assert told["circuit_breaker"]["state"] == "open"


@pytest.mark.parametrize("deed", ["reset", "trip"])
async def test_an_unknown_endpoint_is_a_failure(call: Call, deed: str) -> None:
    """It is named."""
    async with operated(call) as found:
        result = await found.run("breaker", deed, "user")
    assert result.exit_code == 1
    assert result.stderr.endswith(": Endpoint not found: user\n")


@pytest.mark.parametrize("args", [(), ("reset",), ("open", "users"), ("reset", "a/b"), ("reset", "..")])
def test_bad_usage_ends_with_two(call: Call, args: tuple[str, ...]) -> None:
    """No deed, an unknown one, no endpoint, or what can't be one."""
    assert call("breaker", *args).exit_code == 2
