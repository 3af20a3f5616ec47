"""`trio-gateway enable`: an endpoint takes traffic again."""

from __future__ import annotations

import click

from trio_gateway.cli.control import Api, one_endpoint, operates


@click.command()
@one_endpoint
@operates("operate")
def command(api: Api, endpoint_id: str) -> None:
    """Let traffic through to an endpoint again, whatever its file says."""
    found = api.call("PUT", f"/registry/endpoints/{endpoint_id}/status", status="active")
    api.tell(found, f"{endpoint_id} is {found['new_status']}")
