"""A gateway with small limits and short timers, for what a lane does with one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.client import Answer, RawClient
from tests.support.gateway import World, world
from tests.support.upstream import Script, answering

USERS = "/orchestrator/users"
CONFIG = """
server:
  bind: ["127.0.0.1:8000"]
  timeouts: {{head: 5s, keep_alive: 20s, body_idle: 10s}}
  limits: {{target: 200, head: 2000, fields: 20, {limits}}}
  {server}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST, PUT, HEAD, OPTIONS]
    max_body_bytes: 1000
  - {{url: "http://backend.example/", name: closed, methods: [GET, POST], disabled: true}}
"""


@asynccontextmanager
async def gateway(
    script: Script = answering, *, limits: str = "min_rate: 0", server: str = ""
) -> AsyncIterator[World]:
    """A gateway with small limits; behind the test nothing may be left."""
    async with world(CONFIG.format(limits=limits, server=server), script) as here:
        yield here
        for client in here.clients:
            client.link.close()
        await trio.sleep(2.5)
        assert here.idle()
        assert not here.gateway.server.lanes


async def exchange(here: World, data: bytes) -> tuple[RawClient, Answer]:
    """Raw bytes on a connection of their own, and the first reply."""
    client = await here.client()
    await client.send(data)
    return client, await client.answer()


async def is_closed(client: RawClient, *, within: float = 0.1) -> bool:
    """The gateway has ended its side, in order and without another byte."""
    with trio.move_on_after(within):
        return await client.link.receive() == b""
    return False


async def drip(client: RawClient, data: bytes, delay: float) -> None:
    """Send byte by byte, for as long as somebody takes it."""
    try:
        for byte in data:
            await client.send(bytes([byte]))
            await trio.sleep(delay)
    except OSError:
        pass
