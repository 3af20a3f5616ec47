"""One end of a connection. Above this module nobody sees a socket.

A link tries its non-blocking socket first and waits only where it would block: that spares two
checkpoints a request. So neither `receive` nor `send` is a checkpoint when it need not wait; who loops
over them must yield by itself now and then. Waiting for bytes goes through `Readiness`; to write, which
seldom has to wait, through Trio.

Everything that ends a connection is an `OSError` here: resets, TLS alerts, our own close from another
task (`LinkClosed`), a write without progress (`LinkStalled`). `tls_link` has the same over TLS.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
from collections.abc import Callable

import trio

from trio_gateway.config.addresses import Address
from trio_gateway.proxy.pace import Pace
from trio_gateway.proxy.readiness import Readiness

READ_SIZE = 64 * 1024

_LINGER_ZERO = struct.pack("ii", 1, 0)


class LinkClosed(OSError):
    """This end was closed by another task of ours (idle sweep, shutdown)."""


class LinkStalled(OSError):
    """The peer took no byte for `write_timeout` seconds, or fewer than `min_rate` a second."""


class Link:
    """A plain connection over a non-blocking stream socket.

    `peer` and `local` are the addresses of both ends. `write_timeout` bounds each wait for the peer
    to take bytes, in seconds, and `min_rate` (bytes a second) what all waits of one message may add up
    to; `begin_message` starts anew. Its `on_wait` is called before a write waits: the exchange stops
    its clock there.
    """

    __slots__ = (
        "_on_departure",
        "_on_wait",
        "_pace",
        "_poll",
        "_reader",
        "_readiness",
        "_sock",
        "_unread",
        "closed",
        "departed",
        "local",
        "min_rate",
        "peer",
        "write_timeout",
    )

    tls = False
    alpn: str | None = None
    client_certificate = b""  # as in Hop: what upstreams are told of the one that the peer showed

    def __init__(
        self,
        sock: socket.socket,
        peer: Address,
        local: Address,
        write_timeout: float = math.inf,
    ) -> None:
        self._sock = sock
        self.peer = peer
        self.local = local
        self.write_timeout = write_timeout
        self.min_rate = 0
        self.closed = False
        self.departed = False  # the peer sends no more, or is gone, as far as we were told
        self._on_wait: Callable[[], None] | None = None
        self._on_departure: Callable[[], None] | None = None
        self._pace: Pace | None = None
        self._poll: select.poll | None = None  # half the cost of a peek that raises
        self._readiness: Readiness | None = None  # where it is registered
        self._reader: trio.lowlevel.Task | None = None
        self._unread = False  # something may be there: told, and not yet read to its end

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._sock.fileno()

    # ---- reading

    def receive_nowait(self, size: int = READ_SIZE) -> bytes | None:
        """What is there now: b"" at the end of the stream, None when nothing came. Raises OSError."""
        try:
            data = self._sock.recv(size)
        except (BlockingIOError, InterruptedError):
            self._unread = False
            return None
        if len(data) < size:  # all that was there, so whatever comes is told; but an end is told once
            self._unread = self.departed
        return data

    def peek_nowait(self, size: int) -> bytes | None:
        """Like `receive_nowait`, but what is there stays there. Of the socket's own bytes, below TLS."""
        try:
            return self._sock.recv(size, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._unread = False
            return None

    async def receive(self, size: int = READ_SIZE) -> bytes:
        """The next bytes, b"" at the end of the stream. Raises OSError. Cancelling loses nothing."""
        while True:
            data = self.receive_nowait(size)
            if data is not None:
                return data
            await self.readable()

    async def readable(self) -> None:
        """Wait until reading may make progress. Raises LinkClosed. No checkpoint if something is there."""
        if self._unread:
            return
        if self._readiness is None and not self._register():
            await self._readable_by_trio()
            return
        if self._reader is not None:
            raise trio.BusyResourceError("another task reads from this link")
        if not self.closed:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        if self.closed:
            raise LinkClosed

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _register(self) -> bool:
        """Have what happens to the socket told from now on; whether there is who tells it."""
        if self._readiness is None and not self.closed:
            self._readiness = Readiness.current()
            if self._readiness is not None:
                self._readiness.register(self._sock.fileno(), self)
        return self._readiness is not None or self.closed

    def _deregister(self) -> None:
        if self._readiness is not None and (fileno := self._sock.fileno()) >= 0:
            self._readiness.forget(fileno)
        self._readiness = None

    async def _readable_by_trio(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except (trio.ClosedResourceError, ValueError):
            raise LinkClosed from None

    def arrived(self) -> None:
        """See Reader."""
        self._unread = True
        self._wake()

    def peer_left(self) -> None:
        """See Reader."""
        if not self.departed:
            self.departed = True
            if self._on_departure is not None:
                self._on_departure()

    def _wake(self) -> None:
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def watch_departure(self, on_departure: Callable[[], None]) -> None:
        """Call `on_departure` once, when the peer sends no more or is gone, or this end is closed.

        See `departed` for what is known before. A departure is not told on systems without epoll.
        """
        self._on_departure = on_departure
        self._register()

    def is_quiet(self) -> bool:
        """Nothing came and nobody left: an idle connection that may be used again."""
        if self.closed:  # its descriptor may be another's by now
            return False
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def seems_quiet(self, now: float) -> bool:
        """The same by what was told shortly before `now`, without asking the kernel for each connection."""
        if self.tls or self._unread or self._readiness is None:
            return self.is_quiet()
        self._readiness.refresh(now)
        return not (self._unread or self.departed)

    # ---- writing

    def send_nowait(self, data: bytes) -> bytes:
        """Give the kernel what it takes at once; the rest, as `send_rest` wants it. Raises OSError."""
        return data[self._write(data) :]

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def has_room(self) -> bool:
        """Whether a few bytes can be sent without a wait."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(0))

    def begin_message(self, on_wait: Callable[[], None] | None) -> None:
        """Judge the peer's speed anew, and tell `on_wait` of waits from now on."""
        self._on_wait = on_wait
        self._pace = None

    async def send(self, data: bytes) -> None:
        """Hand all of `data` to the kernel. Raises OSError. Cancelled, an unknown part has been sent."""
        if rest := self.send_nowait(data):
            await self.send_rest(rest)

    async def send_rest(self, data: bytes) -> None:
        """Hand over what `send_nowait` left, with its waits; see `send`."""
        rest = memoryview(data)
        if self._pace is None:
            self._pace = Pace(self.min_rate)
        while rest:
            if self._on_wait is not None:
                self._on_wait()
            began = trio.current_time()
            with trio.move_on_after(self.write_timeout) as patience:
                await self._writable()
            if patience.cancelled_caught:
                raise LinkStalled("the peer takes no bytes")
            sent = self._write(rest)
            if self._pace.too_slow(sent, trio.current_time() - began):
                raise LinkStalled("the peer takes bytes too slowly")
            rest = rest[sent:]

    async def _writable(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except (trio.ClosedResourceError, ValueError):
            raise LinkClosed from None

    # ---- ending

    def shutdown_write(self) -> None:
        """Tell the peer that no more bytes come (FIN)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close at once; tasks that wait on this end get LinkClosed. Safe to repeat."""
        if not self.closed:
            self.closed = True
            self._unread = False
            if (fileno := self._sock.fileno()) >= 0:
                self._deregister()
                trio.lowlevel.notify_closing(fileno)
            self._sock.close()
            self._wake()
            self.peer_left()  # for whoever asks: nobody is there any more
            self._on_departure = self._on_wait = None  # whose they are goes at once, without the collector

    def abort(self) -> None:
        """Close with a reset, so that the peer can tell a cut from an end (SO_LINGER 0)."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            Link.close(self)  # over TLS too without a farewell
