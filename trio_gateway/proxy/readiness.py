"""Who has bytes to read: one epoll that holds each socket once, edge-triggered.

Trio's `wait_readable` costs a system call and much bookkeeping at every wait. Here a socket is registered for
its whole life, and waiting for it costs neither: the epoll itself ends the wait of Trio's loop, and behind
each wait an instrument in the loop wakes those to whose sockets something happened, so that they run in that
very turn. The same registration tells when the peer is gone, also behind bytes that nobody has read, and
through TLS (EPOLLRDHUP: it sent FIN or a reset).

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
_AT_ONCE = 256  # so many are woken in a turn; the others in the next
_STALE = 0.0005  # seconds: a busy loop's turn takes ten times as long


class Reader(Protocol):
    """Whose socket is registered. Neither call may raise or wait."""

    def arrived(self) -> None:
        """There is something to read: bytes, the end, or an error."""
        ...

    def peer_left(self) -> None:
        """The peer sends no more, or is gone. `arrived` follows."""
        ...


class Readiness(trio.abc.Instrument):
    """The epoll of one run of Trio, read whenever the loop looked for what happened outside."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}
        self._looked_at = 0.0

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

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  an instrument is told it
        """See Instrument."""
        self._look()

    def refresh(self, now: float) -> None:
        """Tell what happened until shortly before `now`, on Trio's clock, though the loop has not waited."""
        if now - self._looked_at > _STALE:
            self._look()

    @trio.lowlevel.enable_ki_protection
    def _look(self) -> None:
        """Wake the readers. A bug in one ends the run: merely logged, it would leave all others asleep."""
        readers = self._readers
        self._looked_at = trio.current_time()
        try:
            for fileno, what in self._epoll.poll(0, _AT_ONCE):
                if (reader := readers.get(fileno)) is not None:
                    if what & _GONE:
                        reader.peer_left()
                    reader.arrived()
        except BaseException as bug:
            trio.lowlevel.current_trio_token().run_sync_soon(_crash, bug)

    async def _run(self) -> None:
        """Let the epoll end the loop's wait."""
        with self._epoll:
            trio.lowlevel.add_instrument(self)
            try:
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
            finally:
                trio.lowlevel.remove_instrument(self)


def _crash(bug: BaseException) -> None:
    raise bug


_current: trio.lowlevel.RunVar[Readiness | None] = trio.lowlevel.RunVar("trio_gateway.readiness")
