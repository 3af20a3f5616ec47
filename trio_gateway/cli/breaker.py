"""`trio-gateway breaker`: an operator's hand on a circuit breaker."""

from __future__ import annotations

import click

from trio_gateway.cli.control import Api, one_endpoint, operates


@click.group()
def command() -> None:
    """Reset or trip an endpoint's circuit breaker."""


@command.command()
@one_endpoint
@operates("operate")
def reset(api: Api, endpoint_id: str) -> None:
    """Close a circuit breaker and forget its failures."""
    _set(api, "reset", endpoint_id, "")


@command.command()
@one_endpoint
@operates("operate")
def trip(api: Api, endpoint_id: str) -> None:
    """Open a circuit breaker: no request gets to the endpoint until a reset."""
    _set(api, "trip", endpoint_id, ", until it is reset")


def _set(api: Api, deed: str, endpoint_id: str, remark: str) -> None:
    found = api.call("POST", f"/circuit-breaker/{deed}/{endpoint_id}")
    state = found["circuit_breaker"]["state"]
    api.tell(found, f"{endpoint_id}: the circuit breaker is {state}{remark}")
