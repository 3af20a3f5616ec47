"""Whatever interrupts an exchange, and wherever, leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
import trio.testing
from attrs import frozen

from tests.support.cancel import Moment, Strike
from tests.support.client import RawClient, request
from tests.support.faults import fault, through
from tests.support.gateway import World, world
from tests.support.upstream import Script, Wire, answering
from tests.support.websocket import accept, echo_and_close, shake_hands
from trio_gateway.errors import ClientGone
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.readiness import Readiness

SUBJECT = "/orchestrator/users/subject"
CONFIG = """
server: {{bind: ["127.0.0.1:8000"]}}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST]
    timeout: 30
    {}
"""


async def slowly(wire: Wire) -> None:
    while True:
        await wire.request()
        await trio.sleep(1)
        await wire.reply()


async def in_chunks(wire: Wire) -> None:
    while True:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            await trio.sleep(0.1)
            await wire.send(b"5\r\nhello\r\n")
        await wire.send(b"0\r\n\r\n")


async def before_the_upload_ends(wire: Wire) -> None:
    await wire.head()
    await trio.sleep(0.05)
    await wire.reply(b"enough")
    await wire.closed()


async def failing_first(wire: Wire) -> None:
    received = await wire.request()
    if received.target != b"/fail":
        await trio.sleep(0.2)
        await wire.reply()
        await slowly(wire)


async def echoing(wire: Wire) -> None:
    head = await wire.head()
    if head.values(b"upgrade"):
        await echo_and_close(await accept(wire, head))
    else:
        await wire.reply()


async def converse(client: RawClient, world: World) -> None:
    peer = await shake_hands(client.link, target=SUBJECT)
    for _ in range(2):
        await peer.send(b"hello")
        await peer.message()
    await peer.close(1000)
    await peer.end()


async def get(client: RawClient, world: World) -> None:
    await client.get(SUBJECT)


async def upload(client: RawClient, world: World) -> None:
    await client.send(request(SUBJECT, "Content-Length: 30", method="POST"))
    for _ in range(3):
        await trio.sleep(0.1)
        await client.send(b"0123456789")
    await client.answer()


async def expect(client: RawClient, world: World) -> None:
    await client.send(request(SUBJECT, "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST"))
    if not await client.link.receive():
        return
    for piece in (b"5\r\nhello\r\n", b"0\r\n\r\n"):
        await trio.sleep(0.1)
        await client.send(piece)
    await client.answer()


async def contended(client: RawClient, world: World) -> None:
    world.nursery.start_soon(world.get, "/orchestrator/users/other")
    await trio.sleep(0.1)
    await client.get(SUBJECT)


async def unconnected(client: RawClient, world: World) -> None:
    world.network.hang.add(world.backend.address)
    await client.get(SUBJECT)


async def probing(client: RawClient, world: World) -> None:
    assert (await world.get("/orchestrator/users/fail")).status == 502
    await trio.sleep(1)
    await client.get(SUBJECT)


@frozen
class Case:
    """One way for an exchange to go, from its client's and its backend's side."""

    name: str
    script: Script
    client: Callable[[RawClient, World], Awaitable[None]]
    options: str = ""
    end: str = "completed"


BREAKER = "circuit_breaker: {failure_threshold: 1, reset_timeout: 1}"
CASES = [
    Case("plain", answering, get),
    Case("slow reply", slowly, get),
    Case("chunked reply", in_chunks, get),
    Case("streamed upload", answering, upload),
    Case("expected upload", answering, expect),
    Case("early reply", before_the_upload_ends, upload),
    Case("contended pool", slowly, contended, "pool: {max_connections: 1}"),
    Case("hanging connect", answering, unconnected, end="connect_timeout"),
    Case("half-open breaker", failing_first, probing, BREAKER),
    Case("websocket", echoing, converse),
]


def cancel(exchange: Exchange) -> None:
    exchange.cancel(ClientGone())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def play(case: Case, n: int, moment: Moment, *, leave: bool) -> bool:
    """Play `case` with a strike at its n-th step and judge what is left; whether the strike came."""
    async with world(CONFIG.format(case.options), case.script) as here:
        Readiness.current()  # it comes with the first connection and stays
        await trio.testing.wait_all_tasks_blocked()
        tasks, files = living(), descriptors()
        client = await here.client()
        deed = (lambda _: client.link.close()) if leave else cancel
        strike = Strike(here.gateway.runtime.in_flight, SUBJECT.encode(), n, moment, deed)
        trio.lowlevel.add_instrument(strike)
        with contextlib.suppress(OSError, EOFError, h11.RemoteProtocolError):
            await case.client(client, here)
        trio.lowlevel.remove_instrument(strike)
        client.link.close()
        await trio.sleep(2.5)  # what lingers has gone, what idles in the pool has not
        upstream = here.gateway.runtime.upstreams["users"]
        idle = upstream.pool.statistics().idle
        assert here.idle(), upstream.pool
        assert not here.gateway.server.lanes
        assert here.backend.open == idle
        assert living() == tasks + idle
        assert descriptors() == files + 2 * idle
        (reason,) = {line[13] for line in here.lines if line[4] == SUBJECT.encode()}
        assert reason in (("client_gone", case.end) if strike.struck else (case.end,))
        here.network.hang.clear()
        again = await here.get("/orchestrator/users/again")
        assert again.status == (503 if upstream.breaker.state.value == "open" else 200)
    return strike.struck


@fault("rule 6")
@through("lane")
@pytest.mark.parametrize("how", ["cancelled asleep", "cancelled waking", "left asleep", "left waking"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_exchange_interrupted_anywhere_leaves_nothing_behind(
    case: Case, how: str, autojump_clock: trio.abc.Clock
) -> None:
    """For every n: interrupted at its n-th step, an exchange gives back all that it took."""
    verb, moment = how.split()
    n = 1
    while await play(case, n, moment, leave=verb == "left"):  # type: ignore[arg-type]
        n += 1
    assert n > 2, "the exchange must have been interrupted somewhere"
