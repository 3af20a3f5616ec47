"""`trio-gateway probe`."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import Call
from tests.cli.operated import operated


async def test_a_backend_that_lives_is_praised(call: Call) -> None:
    """With the time that it took; the verdict counts."""
    async with operated(call) as found:
        result = await found.run("probe", "users")
        assert found.gateway.prober.records["users"].consecutive_successes > 0
    assert result.exit_code == 0
    assert re.fullmatch(r"users: alive, after \d+ ms; it counts as active\n", result.stdout)


async def test_a_backend_that_is_down_ends_with_one(call: Call) -> None:
    """And the system's own words say why, for people and for programs."""
    async with operated(call) as found:
        await found.run("enable", "gone")
        result = await found.run("probe", "gone")
        as_json = await found.run("probe", "gone", "--json")
    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert re.fullmatch(
        r"gone: .*Connection refused \(failures in a row: \d\); it counts as \w+\n", result.stdout
    )
    assert "Connection refused" in json.loads(as_json.stdout)["result"]["error_message"]
