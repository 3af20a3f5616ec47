"""Live state by endpoint: what the breaker of an endpoint that changed still says."""

from __future__ import annotations

import os
from pathlib import Path

import trio
import trustme

from tests.support.client import request
from tests.support.gateway import world
from tests.support.upstream import Wire
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import EndpointConfig, EndpointTls
from trio_gateway.domain.breaker import State

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1}
endpoints:
  - {url: "http://backend.example/", name: users}
"""


async def failing_late(wire: Wire) -> None:
    await wire.request()
    await trio.sleep(2)


async def test_a_replaced_breaker_says_nothing_more(autojump_clock: object) -> None:
    """A request of other rules fails late: neither an event nor the new breaker's gauge tells of it."""
    async with world(CONFIG, failing_late) as here:
        runtime = here.gateway.runtime
        old = runtime.upstreams["users"].breaker
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(1)
        rules = CONFIG.replace("threshold: 1", "threshold: 2")
        runtime.apply(parse_config(rules, "test.yaml", {}).require())
        assert (await client.answer()).status == 502
        assert old.state is State.OPEN
        assert runtime.upstreams["users"].breaker.state is State.CLOSED
        assert runtime.metrics.endpoint("users").breaker_state is State.CLOSED
        assert runtime.events.recent() == []


async def test_a_removed_endpoint_s_numbers_stay_forgotten(autojump_clock: object) -> None:
    """A late failure of an endpoint that is gone makes no new series."""
    async with world(CONFIG, failing_late) as here:
        runtime = here.gateway.runtime
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(1)
        runtime.apply(parse_config("endpoints: []", "test.yaml", {}).require())
        assert (await client.answer()).status == 502
        assert runtime.metrics.endpoints() == {}


async def test_an_endpoint_that_comes_back_begins_anew(autojump_clock: object) -> None:
    """Removed and added again it has a closed breaker and no numbers."""
    async with world(CONFIG, failing_late) as here:
        runtime = here.gateway.runtime
        assert (await here.get(USERS)).status == 502
        assert runtime.upstreams["users"].breaker.state is State.OPEN
        for text in ("endpoints: []", CONFIG):
            runtime.apply(parse_config(text, "test.yaml", {}).require())
        assert runtime.upstreams["users"].breaker.state is State.CLOSED
        assert not runtime.metrics.endpoint("users").requests


async def test_equal_tls_settings_are_loaded_once_and_again_when_written_anew(
    tmp_path: Path, autojump_clock: object
) -> None:
    """A certificate that was replaced is read for the pools that are made from then on."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    one, two = (EndpointConfig(f"https://{name}/", name, tls=EndpointTls(ca=str(file))) for name in "ab")
    async with world(CONFIG) as here:
        live = here.gateway.runtime.live
        (first, second) = live.pools.load_tls([one, two])
        assert first is second
        os.utime(file, ns=(1, 1))
        assert live.pools.load_tls([one])[0] is not first
