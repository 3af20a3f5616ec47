"""The types of probes, and the one that only connects."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import trio
import trio.testing

from tests.support.upstream import Upstream, Wire
from trio_gateway.background.dial import ProbeFailed
from trio_gateway.background.probes import probes_over
from trio_gateway.config.model import EndpointConfig, HealthCheckConfig
from trio_gateway.domain.health import Check
from trio_gateway.proxy.network import MemoryNetwork


def check(url: str = "http://a.example/", path: str | None = None) -> Check:
    rules = HealthCheckConfig(type="tcp")
    return Check.of(EndpointConfig(url=url, name="a", health_check_path=path, health_check=rules))


def test_every_type_of_the_config_has_its_probe() -> None:
    """What `health_check.type` accepts and what there is are the same words."""
    assert set(probes_over(MemoryNetwork())) == set(get_args(get_type_hints(HealthCheckConfig)["type"]))


@pytest.mark.parametrize("url", ["http://a.example:8080/", "https://a.example:8080/"])
async def test_tcp_connects_says_nothing_and_leaves(url: str) -> None:
    """Over TLS urls, too: alive is what accepts."""
    heard = []

    async def script(wire: Wire) -> None:
        heard.append(await wire.link.receive())

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(Upstream(script).serve, network, "a.example", 8080)
        await probes_over(network)["tcp"](check(url))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert heard == [b""]


async def test_tcp_goes_where_the_path_points() -> None:
    """An absolute `health_check_path` names another port to knock at."""
    network = MemoryNetwork()
    (listener,) = await network.listen("b.example", 9000)
    await probes_over(network)["tcp"](check(path="http://b.example:9000/"))
    link = await listener.accept()
    link.close()


@pytest.mark.parametrize("kind", ["http", "tcp", "websocket"])
async def test_nobody_there(kind: str) -> None:
    """A refused connection is the same error for each of them."""
    with pytest.raises(ConnectionRefusedError):
        await probes_over(MemoryNetwork())[kind](check())


@pytest.mark.parametrize("kind", ["http", "tcp", "websocket"])
async def test_an_unusable_url(kind: str) -> None:
    """What joins to no url is a verdict for each of them, not a crash."""
    with pytest.raises(ProbeFailed, match="no usable url"):
        await probes_over(MemoryNetwork())[kind](check(path="//[bad/"))
