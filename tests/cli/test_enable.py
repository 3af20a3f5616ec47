"""`trio-gateway enable`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call
from tests.cli.operated import operated
from trio_gateway.background.state import StateStore


async def test_an_operator_comes_before_the_file(call: Call) -> None:
    """What the file disables takes traffic after it, and that is kept."""
    async with operated(call) as found:
        result = await found.run("enable", "gone")
        assert found.gateway.runtime.registry.get("gone").status == "active"
    assert (result.exit_code, result.stdout) == (0, "gone is active\n")
    store = StateStore(Path("state"))
    assert store.load().statuses == {"gone": "active"}
    store.close()


async def test_an_unknown_endpoint_is_a_failure(call: Call) -> None:
    """It is named."""
    async with operated(call) as found:
        result = await found.run("enable", "nobody")
    assert result.exit_code == 1
    assert "Endpoint not found: nobody" in result.stderr
