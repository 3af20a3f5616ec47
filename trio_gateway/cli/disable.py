"""`trio-gateway disable`: an endpoint takes no traffic."""

from __future__ import annotations

import click

from trio_gateway.cli.control import Api, one_endpoint, operates


@click.command()
@one_endpoint
@operates("operate")
def command(api: Api, endpoint_id: str) -> None:
    """Stop an endpoint's traffic: its requests get 503 at once, until `enable`, over restarts too."""
    found = api.call("PUT", f"/registry/endpoints/{endpoint_id}/status", status="disabled")
    api.tell(found, f"{endpoint_id} is {found['new_status']}")
