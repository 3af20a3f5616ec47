"""`trio-gateway endpoints`: what a running gateway stands in front of."""

from __future__ import annotations

from typing import Any

import click

from trio_gateway.cli.control import Api, operates
from trio_gateway.cli.tables import moment, table

_PAGE = 1000  # the most that one request gets


@click.command()
@operates("read")
def command(api: Api) -> None:
    """List the endpoints of a running gateway and how each is."""
    found = _all(api)
    rows = [
        (
            each["endpoint_id"],
            each["status"],
            each["circuit_breaker_state"],
            moment(each["last_health_check"]),
            each["source"],
            ",".join(each["methods"]),
            each["url"],
        )
        for each in found["endpoints"]
    ]
    api.tell(found, table(rows, "ENDPOINT", "STATUS", "BREAKER", "CHECKED", "FROM", "METHODS", "URL"))


def _all(api: Api) -> dict[str, Any]:
    """Every page as one document."""
    found = api.get("/registry/endpoints", limit=_PAGE)
    while len(found["endpoints"]) < found["total_count"]:
        page = api.get("/registry/endpoints", limit=_PAGE, offset=len(found["endpoints"]))
        if not page["endpoints"]:  # some went meanwhile
            break
        found["endpoints"] += page["endpoints"]
    return found
