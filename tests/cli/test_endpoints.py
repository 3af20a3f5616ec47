"""`trio-gateway endpoints`."""

from __future__ import annotations

from tests.cli.conftest import Call
from tests.cli.operated import CONFIG, operated

_MANY = CONFIG + "".join(f'  - {{{{url: "http://127.0.0.1:1/", name: e{n}}}}}\n' for n in range(1000))


async def test_each_endpoint_is_a_row(call: Call) -> None:
    """Its id, how it is, when it was checked, where it comes from, and where it leads."""
    async with operated(call) as found:
        await found.run("probe", "users")
        result = await found.run("endpoints")
    headings, users, gone = (line.split() for line in result.stdout.splitlines())
    assert headings == ["ENDPOINT", "STATUS", "BREAKER", "CHECKED", "FROM", "METHODS", "URL"]
    assert users[:3] == ["users", "active", "closed"]
    assert users[4].endswith("Z")
    assert users[5:] == ["file", "GET,POST", f"http://127.0.0.1:{found.backend}/"]
    assert gone == ["gone", "disabled", "closed", "-", "file", "GET", "http://127.0.0.1:1/"]


async def test_json_has_every_page(call: Call) -> None:
    """More endpoints than the API gives at once are still one list."""
    async with operated(call, _MANY + "health_check: {{enabled: false}}\n") as found:
        told = await found.told("endpoints")
    ids = [each["endpoint_id"] for each in told["endpoints"]]
    assert ids == ["users", "gone", *(f"e{n}" for n in range(1000))]
    assert told["total_count"] == 1002
