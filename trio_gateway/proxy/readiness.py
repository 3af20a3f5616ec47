"""Who has bytes to read: one epoll that holds each socket once, edge-triggered.

Trio's `wait_readable` costs a system call and much bookkeeping at every wait. Here a socket is registered for
its whole life, and waiting for it costs neither: one task awaits the epoll itself, through Trio, and wakes
whose sockets something happened to. The same registration tells when the peer is gone, also behind bytes
that nobody has read, and through TLS (EPOLLRDHUP: it sent FIN or a reset).

An edge is told once. So who gets it must remember it until reading has found nothing more: see `Link`.
There is one `Readiness` in each run of Trio. It starts with the first socket, and none exists where the
system has no epoll.
"""

from __future__ import annotations

import contextlib
import select
from typing import Protocol

import trio

_HAS_EPOLL = hasattr(select, "epoll")
_EDGES = (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET) if _HAS_EPOLL else 0
_GONE = (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR) if _HAS_EPOLL else 0


class Reader(Protocol):
    """Whose socket is registered. Neither call may raise or wait."""

    def arrived(self) -> None:
        """There is something to read: bytes, the end, or an error."""
        ...

    def peer_left(self) -> None:
        """The peer sends no more, or is gone. `arrived` follows."""
        ...


class Readiness:
    """The epoll of one run of Trio, and the task that reads it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}

    @staticmethod
    def current() -> Readiness | None:
        """That of the run of Trio that this is called in; None where the system has no epoll."""
        try:
            return _current.get()
        except LookupError:
            pass
        readiness = Readiness() if _HAS_EPOLL else None
        _current.set(readiness)
        if readiness is not None:
            trio.lowlevel.spawn_system_task(readiness._run)
        return readiness

    def register(self, fileno: int, reader: Reader) -> None:
        """Tell `reader` of all that happens to the socket from now on, and of what is there already.

        A socket that changed hands (TLS took it over) may be registered again. Raises OSError.
        """
        self._readers[fileno] = reader
        try:
            self._epoll.register(fileno, _EDGES)
        except FileExistsError:
            self._epoll.modify(fileno, _EDGES)  # tells anew what is there

    def forget(self, fileno: int) -> None:
        """Tell nobody any more; to be called before the socket is closed, since its number serves again."""
        self._readers.pop(fileno, None)
        with contextlib.suppress(OSError, ValueError):  # the run is over, or it was closed beneath us
            self._epoll.unregister(fileno)

    async def _run(self) -> None:
        """Wake the readers. While there is much to tell it doesn't go to sleep: that costs as before."""
        epoll, readers = self._epoll, self._readers
        with epoll:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                while events := epoll.poll(0):
                    for fileno, what in events:
                        if (reader := readers.get(fileno)) is not None:
                            if what & _GONE:
                                reader.peer_left()
                            reader.arrived()
                    await trio.lowlevel.checkpoint()


_current: trio.lowlevel.RunVar[Readiness | None] = trio.lowlevel.RunVar("trio_gateway.readiness")
