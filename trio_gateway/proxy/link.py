"""One end of a connection. Above this module nobody sees a socket.

A link tries its non-blocking socket first and asks Trio only where it would block: that spares two
checkpoints a request. So neither `receive` nor `send` is a checkpoint when it need not wait; who loops
over them must yield by itself now and then.

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
        "_on_wait",
        "_pace",
        "_poll",
        "_sock",
        "closed",
        "local",
        "min_rate",
        "peer",
        "write_timeout",
    )

    tls = False
    alpn: str | None = None

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
        self._on_wait: Callable[[], None] | None = None
        self._pace: Pace | None = None
        self._poll: select.poll | None = None  # half the cost of a peek that raises

    def fileno(self) -> int:
        """The descriptor, for the watch over departed clients; -1 once closed."""
        return self._sock.fileno()

    # ---- reading

    def receive_nowait(self, size: int = READ_SIZE) -> bytes | None:
        """What is there now: b"" at the end of the stream, None when nothing came. Raises OSError."""
        try:
            return self._sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None

    def peek_nowait(self, size: int) -> bytes | None:
        """Like `receive_nowait`, but what is there stays there. Of the socket's own bytes, below TLS."""
        try:
            return self._sock.recv(size, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None

    async def receive(self, size: int = READ_SIZE) -> bytes:
        """The next bytes, b"" at the end of the stream. Raises OSError. Cancelling loses nothing."""
        while True:
            data = self.receive_nowait(size)
            if data is not None:
                return data
            await self.readable()

    async def readable(self) -> None:
        """Wait until reading makes progress. Raises LinkClosed."""
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except (trio.ClosedResourceError, ValueError):
            raise LinkClosed from None

    def is_quiet(self) -> bool:
        """Nothing came and nobody left: an idle connection that may be used again."""
        if self.closed:  # its descriptor may be another's by now
            return False
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    # ---- writing

    def send_nowait(self, data: bytes) -> bytes:
        """Give the kernel what it takes at once; the rest, as `send_rest` wants it. Raises OSError."""
        return data[self._write(data) :]

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

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
            if self._sock.fileno() >= 0:
                trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """Close with a reset, so that the peer can tell a cut from an end (SO_LINGER 0)."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            Link.close(self)  # over TLS too without a farewell
