"""The table of exchanges in flight, and the watch over clients that leave.

A quick exchange pays one entry in a dict. What is older than 25 ms has its client's socket registered
in one epoll that one task awaits: EPOLLRDHUP shows a FIN or a reset behind unread pipelined bytes, and
through TLS. A half-close is a departure, as in nginx. (Trio allows one reader a socket, so a second
`wait_readable` is out of the question.) Where there is no epoll, a peek each tick does.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import trio

from trio_gateway.errors import ClientGone
from trio_gateway.proxy.exchange import Exchange

TICK = 0.025

_HAS_EPOLL = hasattr(select, "epoll")
_GONE = (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR) if _HAS_EPOLL else 0


class InFlight:
    """Every exchange between its head and its end."""

    def __init__(self) -> None:
        self._young: dict[int, Exchange] = {}  # oldest first
        self._watched: dict[int, Exchange] = {}
        self._by_fileno: dict[int, Exchange] = {}
        self._filled = trio.Event()
        self._epoll: select.epoll | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._watched)

    def __iter__(self) -> Iterator[Exchange]:
        yield from self._watched.values()
        yield from self._young.values()

    def enter(self, exchange: Exchange) -> None:
        """Note that `exchange` began."""
        self._young[id(exchange)] = exchange
        if not self._filled.is_set():
            self._filled.set()

    def leave(self, exchange: Exchange) -> None:
        """Note that `exchange` ended; its socket is watched no more."""
        if self._young.pop(id(exchange), None) is None:
            del self._watched[id(exchange)]
            if self._by_fileno.pop(exchange.fileno, None) is not None and self._epoll is not None:
                with contextlib.suppress(OSError):  # closed: the kernel has dropped it already
                    self._epoll.unregister(exchange.fileno)

    async def watch(self) -> None:
        """Cancel exchanges whose client leaves, within about 50 ms; runs until cancelled.

        Begun again, it takes up what was in flight.
        """
        if not _HAS_EPOLL:  # pragma: no cover  Linux has it
            return await self._tick()
        self._forget_descriptors()
        with select.epoll() as epoll:
            self._epoll = epoll
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._await_departures, epoll)
                    await self._tick()
            finally:
                self._epoll = None

    async def _tick(self) -> None:
        while True:
            if not self._young:
                self._filled = trio.Event()
                await self._filled.wait()
            await trio.sleep(TICK)
            self._register(trio.current_time() - TICK)
            if self._epoll is None:  # pragma: no cover
                self._peek()

    def _register(self, older_than: float) -> None:
        due = []
        for exchange in self._young.values():
            if exchange.started > older_than:
                break
            due.append(exchange)
        for exchange in due:
            del self._young[id(exchange)]
            self._watched[id(exchange)] = exchange
            if exchange.fileno >= 0:
                self._watch_descriptor(exchange)

    def _watch_descriptor(self, exchange: Exchange) -> None:
        self._by_fileno[exchange.fileno] = exchange
        if self._epoll is not None:
            try:
                self._epoll.register(exchange.fileno, _GONE)
            except OSError:  # it was closed beneath its exchange: nobody is there
                del self._by_fileno[exchange.fileno]
                exchange.cancel(ClientGone())

    def _forget_descriptors(self) -> None:
        """Their epoll is gone; a new one has to learn of all of them."""
        self._young = {**self._watched, **self._young}
        self._watched.clear()
        self._by_fileno.clear()

    async def _await_departures(self, epoll: select.epoll) -> None:
        while True:
            await trio.lowlevel.wait_readable(epoll.fileno())
            for fileno, _ in epoll.poll(0):
                epoll.unregister(fileno)
                self._by_fileno.pop(fileno).departed()

    def _peek(self) -> None:  # pragma: no cover  for systems without epoll
        for fileno, exchange in list(self._by_fileno.items()):
            with socket.socket(fileno=fileno) as sock:
                try:
                    gone = not sock.recv(1, socket.MSG_PEEK)
                except BlockingIOError:
                    gone = False
                except OSError:
                    gone = True
                finally:
                    sock.detach()
            if gone:
                del self._by_fileno[fileno]
                exchange.departed()
