"""A config, compiled: what requests are served by, from their route on.

A plan is frozen and swapped in one assignment; a request keeps the one that it started with. An endpoint
that a change leaves as it was passes compiled from plan to plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from attrs import frozen

from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.routes import Route, Router
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.steps import Steps


@frozen(eq=False)
class Plan:
    """The file's config, and all endpoints: the file's and those of the management API."""

    config: GatewayConfig
    prefix: bytes
    router: Router[Endpoint]
    endpoints: dict[str, Endpoint]
    request_id_header: bytes


def make_plan(
    config: GatewayConfig, endpoints: dict[str, Endpoint], before: Plan | None = None
) -> Steps[Plan]:
    """The plan of a config and its compiled endpoints, whose order decides between equal routes.

    The router grows out of the one `before`, where that saves work.
    """
    prefix = config.server.prefix.encode().rstrip(b"/")  # "/" is no prefix at all
    places = {endpoint: place for place, endpoint in enumerate(endpoints.values())}
    stays = [endpoint for endpoint in before.endpoints.values() if endpoint in places] if before else []
    base: Router[Endpoint] = Router(prefix)
    known: Collection[Endpoint] = ()
    if before is not None and before.prefix == prefix and _saves_work(stays, places):
        base, known = before.router, dict.fromkeys(before.endpoints.values())
    router = yield from base.edited(
        (route for endpoint in known if endpoint not in places for route in _routes(endpoint)),
        (route for endpoint in places if endpoint not in known for route in _routes(endpoint)),
        places,
    )
    return Plan(
        config=config,
        prefix=prefix,
        router=router,
        endpoints=endpoints,
        request_id_header=config.tracing.request_id_header.encode(),
    )


def _saves_work(stays: list[Endpoint], places: dict[Endpoint, int]) -> bool:
    """Whether most endpoints stay, and in their order."""
    in_order = all(places[one] < places[other] for one, other in pairwise(stays))
    return in_order and 2 * len(stays) > len(places)


def _routes(endpoint: Endpoint) -> Iterator[Route[Endpoint]]:
    match, strip_prefix = endpoint.config.match, endpoint.config.path.strip_prefix
    for pattern, kind in endpoint.routes:
        yield Route(endpoint, pattern, kind, match, strip_prefix)
