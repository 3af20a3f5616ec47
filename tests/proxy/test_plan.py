"""Plans: a config and its endpoints, ready to route."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from trio_gateway.config.load import parse_config
from trio_gateway.domain.registry import Entry
from trio_gateway.observe.events import EventLog
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.compile import compile_endpoint
from trio_gateway.proxy.live import LiveState
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.plan import Plan, make_plan
from trio_gateway.proxy.upstream import PoolFactory


def plan_of(text: str) -> Plan:
    config = parse_config(text, "test.yaml", {}).require()
    live = LiveState(PoolFactory(MemoryNetwork()), Metrics(), EventLog(lambda: 0.0))
    endpoints = {}
    for each in config.endpoints:
        entry = Entry(each.id, each, "file", "active", datetime.now(UTC))
        endpoints[each.id] = compile_endpoint(each, live.upstream(entry, {}), config)
    return make_plan(config, endpoints)


def routed(plan: Plan, path: bytes, host: bytes = b"any") -> str | None:
    match = plan.router.match(b"GET", path, None, host, [])
    return match.value.id if match else None


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        (b"/gw/users/1", "users"),
        (b"/gw/v1/users", "users"),
        (b"/gw/shop/1", "first"),
        (b"/gw/nobody", None),
        (b"/users", None),
    ],
)
async def test_a_plan_routes_what_its_config_says(path: bytes, endpoint: str | None) -> None:
    """Names, versions and `match` under the prefix; of equal routes the first endpoint's is taken."""
    plan = plan_of(
        """
        server: {prefix: /gw}
        tracing: {request_id_header: X-Correlation}
        endpoints:
          - {url: "http://u/", name: users, version: v1}
          - {url: "http://a/", name: first, match: {prefix: /shop, hosts: ["*.any", any]}}
          - {url: "http://b/", name: second, match: {prefix: /shop, hosts: [any]}}
        """
    )
    await trio.lowlevel.checkpoint()
    assert (plan.prefix, plan.request_id_header) == (b"/gw", b"X-Correlation")
    assert routed(plan, path) == endpoint


async def test_a_plan_without_endpoints() -> None:
    """Nothing is routed."""
    await trio.lowlevel.checkpoint()
    assert routed(plan_of(""), b"/orchestrator/users") is None
