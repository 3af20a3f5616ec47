"""`trio-gateway status`: a running gateway on one page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from trio_gateway.cli.control import Api, operates
from trio_gateway.cli.tables import table

_DRAINING = 503


@click.command()
@operates("read")
def command(api: Api) -> None:
    """Show how a running gateway is: its config, endpoints, health, breakers and requests."""
    found: dict[str, Any] = {
        "readiness": api.call("GET", "/readyz", fine=[_DRAINING])["status"],
        "config": api.get("/config/status"),
        "registry": api.get("/registry/stats")["registry_stats"],
        "health": api.get("/health/status"),
        "requests": api.get("/stats/requests")["requests"],
    }
    found = {"url": api.url, **found}  # known since the first answer
    api.tell(found, table(_lines(found)))


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    config, counts, requests = found["config"], found["registry"], found["requests"]
    health, breakers = found["health"]["summary"], found["health"]["circuit_breaker_summary"]
    yield "gateway", f"{found['readiness']} at {found['url']}"
    yield "config", f"{config['config_path'] or 'no file'}, endpoints in it: {config['endpoints_count']}"
    for problem in (config["last_reload_error"] or "").splitlines():
        yield "not used", problem
    yield "endpoints", _counted(counts, "total", "active", "inactive", "disabled", "unhealthy")
    yield (
        "health",
        f"{found['health']['system_status']}: {health['healthy_endpoints']} of {health['total_endpoints']}"
        " watched endpoints are healthy",
    )
    yield (
        "breakers",
        f"{breakers['open_breakers']} open, {breakers['half_open_breakers']} half open"
        f" of {breakers['total_circuit_breakers']} used",
    )
    yield "requests", f"{requests['total_requests']}{_by_status(requests)}, {requests['in_flight']} in flight"


def _counted(numbers: dict[str, int], first: str, *others: str) -> str:
    """`5: 3 active, 2 disabled`; what is 0 is left out."""
    told = ", ".join(f"{numbers[name]} {name}" for name in others if numbers[name])
    return f"{numbers[first]}" + (f": {told}" if told else "")


def _by_status(requests: dict[str, Any]) -> str:
    classes = ", ".join(f"{count} {status}" for status, count in sorted(requests["by_status"].items()))
    return f" ({classes})" if classes else ""
