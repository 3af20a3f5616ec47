"""An exchange is gone when it is over: what it held doesn't wait for the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from tests.support.doors import Cut
from tests.support.stage import USERS, Door, Stage, silent
from tests.support.upstream import Script, Wire, answering
from trio_gateway.proxy.exchange import Exchange


async def cutting(wire: Wire) -> None:
    """Half a reply."""
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def resetting(wire: Wire) -> None:
    """No reply."""
    await wire.request()
    wire.link.abort()


async def get(stage: Stage) -> None:
    """A request without a body."""
    await stage.get()


async def upload(stage: Stage) -> None:
    """A request whose body streams."""
    call = await stage.open("POST", USERS, length=20)
    for _ in range(2):
        await trio.sleep(0.1)
        await call.send(bytes(10))
    await call.answer()


async def leave(stage: Stage) -> None:
    """A client that does not wait."""
    call = await stage.open("GET", USERS)
    await trio.sleep(0.1)
    await call.leave()
    await trio.sleep(0.1)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """The collector stands still."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("script", "client"),
    [
        (answering, get),
        (answering, upload),
        (silent, get),
        (silent, upload),
        (silent, leave),
        (cutting, get),
        (resetting, get),
        (resetting, upload),
    ],
)
async def test_an_exchange_is_gone_when_it_is_over(
    script: Script, client: Callable[[Stage], Awaitable[None]], door: Door
) -> None:
    """However it ends: under load the collector comes late, and a body's buffers are large."""
    async with door.stage(script, {"timeout": 1}) as stage:
        in_flight = stage.gateway.runtime.in_flight
        begun: list[weakref.ref[object]] = []

        class Noted(dict[Exchange, None]):
            def __setitem__(self, exchange: Exchange, nothing: None) -> None:
                begun.append(weakref.ref(exchange))
                super().__setitem__(exchange, nothing)

        in_flight._exchanges = Noted()
        with uncollected():
            with contextlib.suppress(Cut):
                await client(stage)
            await trio.sleep(0.1)
            assert begun
            assert [exchange() for exchange in begun if exchange() is not None] == []
