"""Plans: a config and its endpoints, ready to route."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.registry import Entry
from trio_gateway.observe.events import EventLog
from trio_gateway.observe.metrics import Metrics
from trio_gateway.proxy.compile import Endpoint, compile_endpoint
from trio_gateway.proxy.live import LiveState
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.plan import Plan, make_plan
from trio_gateway.proxy.steps import in_one_go
from trio_gateway.proxy.upstream import PoolFactory


def config_of(text: str) -> GatewayConfig:
    return parse_config(text, "test.yaml", {}).require()


def compiled(config: GatewayConfig) -> dict[str, Endpoint]:
    live = LiveState(PoolFactory(MemoryNetwork()), Metrics(), EventLog(lambda: 0.0))
    endpoints = {}
    for each in config.endpoints:
        entry = Entry(each.id, each, "file", "active", datetime.now(UTC))
        endpoints[each.id] = compile_endpoint(each, live.upstream(entry, {}), config)
    return endpoints


def plan_of(text: str) -> Plan:
    config = config_of(text)
    return in_one_go(make_plan(config, compiled(config)))


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


MANY = "endpoints:\n" + "".join(f"  - {{url: 'http://b/{n}', name: e{n}}}\n" for n in range(50))


async def test_a_plan_grows_out_of_the_one_before() -> None:
    """What stays is routed as it was, what changed anew, in steps for the change alone."""
    await trio.lowlevel.checkpoint()
    config = config_of(MANY)
    endpoints = compiled(config)
    before = in_one_go(make_plan(config, endpoints))
    changed = compiled(config_of("endpoints: [{url: 'http://c/', name: e7, version: v2}]"))
    steps = make_plan(config, endpoints | changed, before)
    assert sum(1 for _ in steps) < 10
    after = in_one_go(make_plan(config, endpoints | changed, before))
    assert routed(after, b"/orchestrator/v2/e7") == "e7"
    assert after.router.match(b"GET", b"/orchestrator/e7", None, b"", []).value is changed["e7"]  # type: ignore[union-attr]
    assert routed(before, b"/orchestrator/v2/e7") is None
    assert routed(after, b"/orchestrator/e8") == "e8"


async def test_endpoints_that_pass_each_other_in_the_file_are_routed_in_their_new_order() -> None:
    """Of equal routes the one that is first now is taken, though neither endpoint changed."""
    await trio.lowlevel.checkpoint()
    config = config_of(
        """
        endpoints:
          - {url: "http://a/", name: first, match: {prefix: /shop, hosts: ["*.any", any]}}
          - {url: "http://b/", name: second, match: {prefix: /shop, hosts: [any]}}
          - {url: "http://c/", name: third}
        """
    )
    endpoints = compiled(config)
    before = in_one_go(make_plan(config, endpoints))
    swapped = {id_: endpoints[id_] for id_ in ("second", "first", "third")}
    after = in_one_go(make_plan(config, swapped, before))
    assert routed(before, b"/orchestrator/shop") == "first"
    assert routed(after, b"/orchestrator/shop") == "second"
