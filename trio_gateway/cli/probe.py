"""`trio-gateway probe`: is a backend alive, as the gateway sees it?"""

from __future__ import annotations

from typing import Any

import click

from trio_gateway.cli.control import FAILED, Api, one_endpoint, operates
from trio_gateway.cli.tables import printable


@click.command()
@one_endpoint
@operates("operate")
def command(api: Api, endpoint_id: str) -> None:
    """Check an endpoint's health now. The verdict counts like any other.

    Exits with 1 when the check fails.
    """
    found = api.call("POST", f"/health/check/{endpoint_id}")
    result = found["result"]
    api.tell(found, f"{endpoint_id}: {printable(_told(result))}")
    if result["error_message"] is not None:
        click.get_current_context().exit(FAILED)


def _told(result: dict[str, Any]) -> str:
    if result["error_message"] is None:
        how = f"alive, after {1000 * result['response_time']:.0f} ms"
    else:
        how = f"{result['error_message']} (failures in a row: {result['consecutive_failures']})"
    return f"{how}; it counts as {result['status']}"
