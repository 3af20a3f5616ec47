"""A gateway in the test's own process, but on real loopback sockets: its gauges can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define

from tests.e2e.started import NETWORK, backend, config, until
from tests.support.client import RawClient
from tests.support.gateway import Lines, World, unprobed
from tests.support.upstream import Script
from trio_gateway.config.load import parse_config
from trio_gateway.proxy.link import Link
from trio_gateway.supervisor import Gateway


@define
class RealWorld(World):
    """A gateway before one backend, over TCP."""

    async def connect(self) -> Link:
        """A new connection to the gateway."""
        return await NETWORK.connect(*self.gateway.addresses[0])

    async def client(self) -> RawClient:
        """See World."""
        client = RawClient(await self.connect())
        self.clients.append(client)
        return client

    @property
    def reasons(self) -> list[object]:
        """Why each exchange ended, from the access log."""
        return [line[13] for line in self.lines]

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        await until(self.idle)


@asynccontextmanager
async def real_world(script: Script, text: str | None = None, **settings: str) -> AsyncIterator[RealWorld]:
    """A running gateway before a scripted backend; `settings` as `config` takes them, or a whole `text`."""
    lines = Lines()
    async with backend(script) as upstream, trio.open_nursery() as nursery:
        text = text or config(upstream.address[1], **settings)
        loaded = unprobed(parse_config(text, "test.yaml", {}).require())
        gateway = Gateway(loaded, network=NETWORK, access_log=lines)  # type: ignore[arg-type]
        await nursery.start(gateway.run)
        world = RealWorld(NETWORK, gateway, upstream, nursery, lines.records)  # type: ignore[arg-type]
        yield world
        for client in world.clients:
            client.link.close()
        nursery.cancel_scope.cancel()
