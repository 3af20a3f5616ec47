"""`trio-gateway routes`: which paths lead where."""

from __future__ import annotations

import click

from trio_gateway.cli.control import Api, operates
from trio_gateway.cli.tables import table


@click.command()
@operates("read")
def command(api: Api) -> None:
    """List the routes of a running gateway, under its server.prefix; disabled endpoints have none."""
    found = api.get("/router/routes")
    rows = [
        (
            each["pattern"],
            each["endpoint_id"],
            ",".join(each["methods"]),
            each["status"],
            each["circuit_breaker_state"],
            each["target_url"],
        )
        for each in found["routes"]
    ]
    api.tell(found, table(rows, "ROUTE", "ENDPOINT", "METHODS", "STATUS", "BREAKER", "URL"))
