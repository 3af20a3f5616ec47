"""`trio-gateway reload`."""

from __future__ import annotations

import json

from tests.cli.conftest import Call
from tests.cli.operated import FILE, edit, operated


async def test_what_was_edited_is_in_force(call: Call) -> None:
    """When the verb ends, not a poll later."""
    async with operated(call) as found:
        edit("disabled: true", "methods: [PUT]")
        result = await found.run("reload")
        entry = found.gateway.runtime.registry.get("gone")
        assert (entry.status, entry.config.methods) == ("active", ("PUT",))
    assert result.exit_code == 0
    assert result.stdout == "reloaded: the file has 2 endpoints\n"


async def test_what_needs_a_restart_is_named(call: Call) -> None:
    """The rest of the file is in force all the same."""
    async with operated(call) as found:
        edit("state_dir: state", "logging: {access_log: false}\nstate_dir: state")
        told = await found.told("reload")
        result = await found.run("reload")
    assert told["not_applied"] == ["logging.access_log"]
    assert result.stdout.endswith("a restart is needed for logging.access_log\n")


async def test_a_broken_file_changes_nothing(call: Call) -> None:
    """Its mistakes go to standard error, and the exit code tells."""
    async with operated(call) as found:
        edit("name: gone", "name: 'gone away'")
        result = await found.run("reload")
        as_json = await found.run("reload", "--json")
        assert found.gateway.runtime.registry.get("gone")
    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert result.stdout == "nothing was changed\n"
    assert result.stderr.startswith(f"{FILE}:6:")
    assert "endpoints[1].name" in result.stderr
    told = json.loads(as_json.stdout)
    assert told["success"] is False
    assert told["errors"] == result.stderr.splitlines()
