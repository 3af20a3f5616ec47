"""Clients that take as long as they are let: each holds its connection until the gateway ends it.

All keep within every idle timer: a byte a second comes, or is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import trio

from trio_gateway.proxy.link import Link

TARGET = b"/orchestrator/slow"
_PAUSE = 1.0  # seconds between two bytes

Attack = Callable[[Link], Awaitable[None]]


def _head(method: bytes, field: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: slow\r\n%b\r\n" % (method, TARGET, field)


async def silent(link: Link) -> None:
    """Say nothing at all."""
    await link.receive()


async def in_head(link: Link) -> None:
    """One field that never ends."""
    await _drip(link, _head(b"GET", b"X-Slow: ")[:-2], b"x")


async def in_body(link: Link) -> None:
    """A body of a length that is never reached."""
    await _drip(link, _head(b"POST", b"Content-Length: 1000000\r\n"), b"x")


async def in_chunks(link: Link) -> None:
    """A chunk that never ends."""
    await _drip(link, _head(b"POST", b"Transfer-Encoding: chunked\r\n") + b"fffff\r\n", b"x")


async def between_requests(link: Link) -> None:
    """Empty lines, which a parser skips before a request."""
    await _drip(link, b"", b"\r\n")


async def reading(link: Link) -> None:
    """Ask for more than any buffer holds, and take a few bytes a second."""
    await _drip(link, _head(b"GET", b""), b"G", bite=10)


async def deaf(link: Link) -> None:
    """Ask, and never read."""
    await _drip(link, _head(b"GET", b""), b"G", bite=0)


async def _drip(link: Link, beginning: bytes, more: bytes, *, bite: int | None = None) -> None:
    """Send a little each second until an answer comes; where one is taken in bites, until sending fails."""
    await link.send(beginning)
    while bite is not None or link.is_quiet():
        await link.send(more)
        await trio.sleep(_PAUSE)
        if bite:
            link.receive_nowait(bite)


ATTACKS: dict[str, Attack] = {
    "silent": silent,
    "head": in_head,
    "lines": between_requests,
    "body": in_body,
    "chunks": in_chunks,
    "reading": reading,
    "deaf": deaf,
}


async def held(attack: Attack, link: Link) -> float:
    """Attack over a connection; the seconds until the gateway has ended it."""
    began = trio.current_time()
    try:
        with contextlib.suppress(OSError):
            await attack(link)
    finally:
        link.close()
    return trio.current_time() - began


async def flowing(link: Link) -> None:
    """The backend behind them: a reply without an end, for as long as somebody takes it."""
    with contextlib.suppress(OSError):
        received = b""
        while b"\r\n\r\n" not in received:
            received += await link.receive() or b"\r\n\r\n"
        if received.startswith(b"GET"):
            await link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
            while True:
                await link.send(bytes(65536))
                await trio.lowlevel.checkpoint()
        while await link.receive():
            pass
    link.close()
