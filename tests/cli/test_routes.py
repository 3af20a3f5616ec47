"""`trio-gateway routes`."""

from __future__ import annotations

from tests.cli.conftest import Call
from tests.cli.operated import operated


async def test_each_route_is_a_row(call: Call) -> None:
    """A versioned endpoint has two, a disabled one none."""
    async with operated(call) as found:
        result = await found.run("routes")
    headings, *rows = (line.split() for line in result.stdout.splitlines())
    assert headings == ["ROUTE", "ENDPOINT", "METHODS", "STATUS", "BREAKER", "URL"]
    rest = ["users", "GET,POST", "active", "closed", f"http://127.0.0.1:{found.backend}/"]
    assert sorted(rows) == [["/users", *rest], ["/v1/users", *rest]]


async def test_json_is_the_api_s_list(call: Call) -> None:
    """Fields and all."""
    async with operated(call) as found:
        told = await found.told("routes")
    assert told["total_count"] == 2
    assert {each["pattern"] for each in told["routes"]} == {"/users", "/v1/users"}
