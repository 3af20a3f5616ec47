"""From config to what serves: limits, clocks, and the order of things."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import trio

from tests.support.client import request
from tests.support.exchange import Made
from tests.support.gateway import World, world
from trio_gateway.config.load import parse_config
from trio_gateway.domain.outcome import Outcome
from trio_gateway.errors import UpstreamReset, UpstreamTruncated
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.forward import Attempt
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime

USERS = "/orchestrator/users"


def compiled(block: str = "", server: str = "") -> Endpoint:
    """The one endpoint of a config."""
    text = f'server: {{{server}}}\nendpoints:\n  - {{url: "http://b.example/v1", name: users, {block}}}\n'
    runtime = Runtime(MemoryNetwork())
    runtime.apply(parse_config(text, "test.yaml", {}).require())
    return runtime.plan.endpoints["users"]


@pytest.mark.parametrize(
    ("block", "server", "limit"),
    [
        ("", "", None),
        ("max_body_bytes: 5", "", 5),
        ("", "limits: {body: 7}", 7),
        ("max_body_bytes: 5", "limits: {body: 7}", 5),
        ("max_body_bytes: 9", "limits: {body: 7}", 7),
        ("max_body_bytes: 0", "", 0),
    ],
)
async def test_the_smaller_body_limit_holds(block: str, server: str, limit: int | None) -> None:
    """The endpoint's or the server's; zero is a limit."""
    assert compiled(block, server).max_body == limit


@pytest.mark.parametrize(
    ("block", "deadline", "latest"),
    [
        ("timeout: 7", 7.0, math.inf),
        ("timeout: 7, timeouts: {total: 5}", 5.0, 5.0),
        ("timeouts: {total: 90}", 30.0, 90.0),
    ],
)
async def test_the_clock_starts_with_the_request(
    block: str, deadline: float, latest: float, made: Made, autojump_clock: object
) -> None:
    """Not when somebody comes round to it."""
    endpoint, exchange = compiled(block), made()
    exchange.started = trio.current_time()
    await trio.sleep(1)
    endpoint.begin(exchange)
    assert exchange.deadline - exchange.started == pytest.approx(deadline)
    assert exchange.latest - exchange.started == pytest.approx(latest)


async def test_what_is_not_configured_is_not_there() -> None:
    """No gate without a rule, and no layer but the breaker's around the attempt."""
    plain = compiled()
    assert len(plain.gates) == 2  # in service, method
    full = compiled("deny: [10.0.0.0/8], max_body_bytes: 5, cors: {origins: ['https://a.example']}")
    assert len(full.gates) == 5
    cells = [cell.cell_contents for cell in plain.handler.__closure__ or ()]  # type: ignore[attr-defined]
    assert any(isinstance(cell, Attempt) for cell in cells)


def trip(here: World) -> None:
    here.gateway.runtime.upstreams["users"].breaker.trip(trio.current_time())


def disable(here: World) -> None:
    here.gateway.runtime.set_status("users", "disabled")


def unhealthy(here: World) -> None:
    here.gateway.runtime.set_status("users", "unhealthy")


def inactive(here: World) -> None:
    here.gateway.runtime.set_status("users", "inactive")


@pytest.mark.parametrize(
    ("config", "faults", "method", "size", "status", "code"),
    [
        ("deny: [127.0.0.0/8]", [disable, trip], "DELETE", 99, 403, "forbidden"),
        ("", [disable, trip], "DELETE", 99, 503, "endpoint_disabled"),
        ("", [unhealthy, trip], "DELETE", 99, 503, "endpoint_unhealthy"),
        ("", [trip], "DELETE", 99, 405, "method_not_allowed"),
        ("", [trip], "POST", 99, 413, "payload_too_large"),
        ("", [trip], "POST", 9, 503, "circuit_open"),
        ("", [inactive], "POST", 9, 200, ""),
    ],
)
async def test_gates_speak_in_their_order(
    config: str,
    faults: list[Callable[[World], None]],
    method: str,
    size: int,
    status: int,
    code: str,
    autojump_clock: object,
) -> None:
    """The first that refuses answers, the breaker last; an inactive endpoint still serves."""
    text = f"""
    server: {{bind: ["127.0.0.1:8000"]}}
    endpoints:
      - {{url: "http://backend.example/", name: users, methods: [POST], max_body_bytes: 10, {config}}}
    """
    async with world(text) as here:
        for fault in faults:
            fault(here)
        client = await here.client()
        await client.send(request(USERS, method=method, body=bytes(size)))
        answer = await client.answer()
        assert answer.status == status
        if code:
            assert json.loads(answer.body)["code"] == code
            assert here.backend.connections == 0
        assert here.idle()


@pytest.mark.parametrize(("failure_on", "counted"), [("[reset]", 1), ("[connect, timeout]", 0)])
async def test_a_late_failure_counts_when_its_kind_does(
    failure_on: str, counted: int, made: Made, autojump_clock: object
) -> None:
    """And never without a permit."""
    endpoint, exchange = compiled(f"circuit_breaker: {{failure_on: {failure_on}}}"), made()
    breaker = endpoint.upstream.breaker
    endpoint.late_failure(exchange, UpstreamReset())
    assert breaker.failure_count == 0
    exchange.permit = breaker.admit(trio.current_time())
    assert exchange.permit is not None
    endpoint.late_failure(exchange, UpstreamTruncated())
    assert breaker.failure_count == 0  # nothing was settled yet
    exchange.permit.settle(Outcome.OK, trio.current_time())
    endpoint.late_failure(exchange, UpstreamTruncated())
    assert breaker.failure_count == counted
