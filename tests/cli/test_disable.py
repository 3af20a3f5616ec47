"""`trio-gateway disable`."""

from __future__ import annotations

import shutil

from tests.cli.conftest import Call
from tests.cli.operated import operated


async def test_traffic_stops_until_an_enable(call: Call) -> None:
    """In force when the verb ends."""
    async with operated(call) as found:
        entry = found.gateway.runtime.registry.get("users")
        result = await found.run("disable", "users")
        assert entry.status == "disabled"
        told = await found.told("enable", "users")
        assert entry.status == "active"
    assert (result.exit_code, result.stdout) == (0, "users is disabled\n")
    assert (told["endpoint_id"], told["new_status"]) == ("users", "active")


async def test_what_cannot_be_kept_is_not_done(call: Call) -> None:
    """A state directory that takes nothing is told in one line, and traffic goes on."""
    async with operated(call) as found:
        await found.run("status")  # the secret is read before it goes
        token = (await found.run("token", "--scope", "write")).stdout.strip()
        shutil.rmtree("state")
        result = await found.call("disable", "users", "--url", found.url, TRIO_GATEWAY_TOKEN=token)
        assert found.gateway.runtime.registry.get("users").status == "active"
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert found.url in result.stderr
