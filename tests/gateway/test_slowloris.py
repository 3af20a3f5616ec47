"""Clients that take as long as they are let, in a crowd: each is ended by a timer, and nobody else waits."""

from __future__ import annotations

import pytest
import trio

from tests.support.gateway import World, world
from tests.support.slow import ATTACKS, flowing, held
from trio_gateway.config.addresses import Address
from trio_gateway.proxy.network import MemoryNetwork

SLOW: Address = ("slow.example", 80)
CROWD = 25  # of each kind
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
endpoints:
  - {url: "http://backend.example/", name: users}
  - {url: "http://slow.example/", name: slow, methods: [GET, POST]}
"""
LONGEST = {"silent": 11, "head": 11, "lines": 11, "body": 7, "chunks": 7, "reading": 32, "deaf": 32}
"""Seconds: the head's timer and a sweep, min_rate's grace and a little, a write without progress (in memory a
buffer frees its bytes by the piece, so that a bite is none)."""


async def serve_slow(network: MemoryNetwork, nursery: trio.Nursery) -> None:
    (listener,) = await network.listen(*SLOW)
    while True:
        nursery.start_soon(flowing, await listener.accept())


async def attacked(here: World, kind: str, seconds: dict[str, list[float]]) -> None:
    client = await here.client()
    seconds[kind].append(await held(ATTACKS[kind], client.link))


async def test_a_crowd_of_slow_clients_holds_nobody_up(autojump_clock: object) -> None:
    """Each of them is ended in time, and who asks in between is answered at once."""
    seconds: dict[str, list[float]] = {kind: [] for kind in ATTACKS}
    async with world(CONFIG) as here, trio.open_nursery() as nursery:
        nursery.start_soon(serve_slow, here.network, nursery)
        async with trio.open_nursery() as crowd:
            for kind in ATTACKS:
                for _ in range(CROWD):
                    crowd.start_soon(attacked, here, kind, seconds)
            for _ in range(12):
                await trio.sleep(1)
                began = trio.current_time()
                assert (await here.get("/orchestrator/users")).status == 200
                assert trio.current_time() == began
        await trio.sleep(2.5)
        assert here.idle()
        assert not here.gateway.server.lanes
        nursery.cancel_scope.cancel()
    assert {kind: len(found) for kind, found in seconds.items()} == dict.fromkeys(ATTACKS, CROWD)
    assert {kind: max(found) for kind, found in seconds.items()} == pytest.approx(LONGEST, abs=1.0)
