"""The whole demo in memory."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.client import RawClient
from trio_gateway.config.load import parse_config
from trio_gateway.demo.stage import Temper, open_stage
from trio_gateway.proxy.network import MemoryNetwork


async def test_the_gateway_stands_before_all_three_backends() -> None:
    """Each backend answers through the gateway, under its name."""
    network = MemoryNetwork()
    async with open_stage("127.0.0.1:8000", Temper(), network=network) as stage:
        assert stage.base == "http://127.0.0.1:8000/orchestrator"
        client = RawClient(await network.connect("127.0.0.1", 8000))
        told = json.loads((await client.get("/orchestrator/users/7")).body)
        assert told["target"] == "/api/7"
        assert json.loads((await client.get("/orchestrator/flaky/")).body)["backend"] == "flaky"
        assert (await client.get("/orchestrator/events?count=0")).body == b""
        client.link.close()
    assert network.listeners == {}


async def test_the_config_that_is_shown_is_the_one_that_serves() -> None:
    """Who copies it gets the same gateway."""
    temper = Temper(timeout=1.5, failures=2, reset_timeout=0.25)
    async with open_stage("127.0.0.1:8000", temper, network=MemoryNetwork()) as stage:
        assert parse_config(stage.config_text, "copy.yaml", {}).require() == stage.gateway.config
        flaky = {endpoint.name: endpoint for endpoint in stage.gateway.config.endpoints}["flaky"]
        assert flaky.timeout == 1.5
        assert flaky.circuit_breaker.failure_threshold == 2
        assert flaky.circuit_breaker.reset_timeout == 0.25


async def test_an_address_that_is_taken_ends_everything() -> None:
    """No backend is left behind when the gateway can't listen."""
    network = MemoryNetwork()
    (taken,) = await network.listen("127.0.0.1", 8000)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_stage("127.0.0.1:8000", Temper(), network=network):
            raise AssertionError("it must not start")
    assert caught.group_contains(OSError, match="address in use")
    taken.close()
    assert network.listeners == {}
    await trio.lowlevel.checkpoint()
