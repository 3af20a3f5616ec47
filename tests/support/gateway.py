"""A whole gateway in memory: config text in, a raw client out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import define, evolve, field

from tests.support.client import Answer, RawClient
from tests.support.upstream import Script, Upstream, answering
from trio_gateway.config.addresses import Address
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.supervisor import Gateway

GATEWAY: Address = ("127.0.0.1", 8000)
BACKEND: Address = ("backend.example", 80)

CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST, PUT, DELETE, PATCH, OPTIONS]
    timeout: 30
"""


@define
class World:
    """A gateway, its one backend, and who stands around them. Lines are what the access log got."""

    network: MemoryNetwork
    gateway: Gateway
    backend: Upstream
    nursery: trio.Nursery
    lines: list[tuple[object, ...]]
    clients: list[RawClient] = field(factory=list)

    async def client(self) -> RawClient:
        """A new connection to the gateway."""
        client = RawClient(await self.network.connect(*GATEWAY))
        self.clients.append(client)
        return client

    async def get(self, target: str, *headers: str, method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        client = await self.client()
        try:
            return await client.get(target, *headers, method=method)
        finally:
            client.link.close()

    def idle(self) -> bool:
        """Nothing is in flight: table, counters and pools are at their baseline."""
        runtime = self.gateway.runtime
        return (
            not len(runtime.in_flight)
            and all(stats.in_flight == 0 for stats in runtime.metrics.endpoints().values())
            and all(up.pool.statistics().active == 0 for up in runtime.upstreams.values())
            and all(up.pool.statistics().waiting == 0 for up in runtime.upstreams.values())
            and all(up.breaker.half_open_calls == 0 for up in runtime.upstreams.values())
            and runtime.metrics.handler_errors == 0
        )


class Lines:
    """An access log that keeps its records."""

    dropped = 0

    def __init__(self) -> None:
        self.records: list[tuple[object, ...]] = []

    def log(self, record: tuple[object, ...]) -> None:
        """Keep one record."""
        self.records.append(record)


def unprobed(config: GatewayConfig) -> GatewayConfig:
    """The config without health checks: they would be connections that a script doesn't expect."""
    endpoints = (
        evolve(each, health_check=evolve(each.health_check, enabled=False)) for each in config.endpoints
    )
    return evolve(config, endpoints=tuple(endpoints))


@asynccontextmanager
async def world(
    config: str = CONFIG, script: Script = answering, environ: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """A running gateway before a scripted backend, in memory."""
    network = MemoryNetwork()
    lines = Lines()
    loaded = unprobed(parse_config(config, "test.yaml", environ or {}).require())
    gateway = Gateway(loaded, network=network, access_log=lines)  # type: ignore[arg-type]
    backend = Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.serve, network, *BACKEND)
        await nursery.start(gateway.run)
        world = World(network, gateway, backend, nursery, lines.records)
        yield world
        for client in world.clients:
            client.link.close()
        nursery.cancel_scope.cancel()
