"""A gateway with short timers, and what stands around it when they pass."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.support.client import Answer, RawClient, request
from tests.support.gateway import World, world
from tests.support.upstream import Script, Wire, answering

USERS = "/orchestrator/users"
CONFIG = """
server:
  bind: ["127.0.0.1:8000"]
  timeouts: {{body_idle: 12s, write: 7s}}
  limits: {{min_rate: {rate}}}
circuit_breaker: {{failure_threshold: 9}}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST]
    timeout: 5
    timeouts: {{connect: 3s, idle: 8s, total: {total}}}
    pool: {{max_connections: 1}}
"""
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def timed(
    script: Script = answering, *, total: str = "null", rate: int = 0, connections: int = 1
) -> AsyncIterator[World]:
    """A gateway with short timers: head 5, connect 3, idle 8, body_idle 12, write 7 seconds."""
    config = CONFIG.format(total=total, rate=rate).replace(
        "max_connections: 1", f"max_connections: {connections}"
    )
    async with world(config, script) as here:
        yield here
        for client in here.clients:
            client.link.close()
        await trio.sleep(2.5)
        assert here.idle()
        pool = here.gateway.runtime.upstreams["users"].pool
        assert here.backend.open == pool.statistics().idle


def failures(here: World) -> int:
    return here.gateway.runtime.upstreams["users"].breaker.failure_count


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


async def post(client: RawClient, size: int) -> None:
    """Send a large body for as long as somebody takes it."""
    with contextlib.suppress(OSError):
        await client.send(request(USERS, f"Content-Length: {size}", method="POST") + bytes(size))


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.closed()


async def within(seconds: float, client: RawClient) -> Answer:
    """The answer, which must come this many seconds after the test began."""
    answer = await client.answer()
    assert seconds <= trio.current_time() <= seconds + 0.05
    return answer
