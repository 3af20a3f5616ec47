"""What one HTTP/2 stream has to send, between its application and the connection's one sender.

The application adds and waits; the sender takes what the windows allow. A stream whose client closes its
window holds up nobody else, and not for ever: each wait for progress is bounded, and so is the pace.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field
from h2.connection import H2Connection

from trio_gateway.proxy.link import LinkStalled
from trio_gateway.proxy.pace import Pace
from trio_gateway.wire.request import RawHeaders

HIGH_WATER = 64 * 1024


@define(eq=False)
class Outbox:
    """The frames of one reply, in order: interim heads, the head, the body, trailers, the end.

    `write_timeout` (seconds) bounds each wait for the client, `min_rate` (bytes a second) their sum.
    `on_wait` is called before each wait.
    """

    stream_id: int
    write_timeout: float
    min_rate: int
    on_wait: Callable[[], None] | None = None
    heads: list[RawHeaders] = field(factory=list)
    started: bool = False  # the final head was sent
    ended: bool = False  # END_STREAM was sent
    closed: bool = False
    _headed: bool = False
    _buffer: bytearray = field(factory=bytearray)
    _finished: bool = False
    _trailers: RawHeaders = field(factory=list)
    _moved: trio.Event = field(factory=trio.Event)
    _pace: Pace | None = None

    # ---- the application's side

    def put_head(self, head: RawHeaders, *, final: bool) -> None:
        """Add a head. An interim one behind the final one is dropped."""
        if not self._headed:
            self.heads.append(head)
            self._headed = final

    def put(self, data: bytes) -> None:
        """Add a piece of the body."""
        self._buffer += data

    def finish(self, trailers: RawHeaders) -> None:
        """Nothing more comes but `trailers`."""
        self._finished = True
        self._trailers = trailers

    async def room(self) -> None:
        """Wait until little waits. Raises LinkStalled, or BrokenPipeError when the stream was closed."""
        while len(self._buffer) > HIGH_WATER and not self.closed:
            await self._progress()
        self._check()

    async def drained(self) -> None:
        """Wait until the end was sent. Raises as `room` does."""
        while not self.ended and not self.closed:
            await self._progress()
        if not self.ended:
            self._check()

    def _check(self) -> None:
        if self.closed:
            raise BrokenPipeError("the stream was closed")

    async def _progress(self) -> None:
        if self.on_wait is not None:
            self.on_wait()
        if self._pace is None:
            self._pace = Pace(self.min_rate)
        waiting, began = len(self._buffer), trio.current_time()
        with trio.move_on_after(self.write_timeout) as patience:
            await self._moved.wait()
        if patience.cancelled_caught:
            raise LinkStalled("the client opens no window")
        if self._pace.too_slow(waiting - len(self._buffer), trio.current_time() - began):
            raise LinkStalled("the client opens its window too slowly")

    # ---- the sender's side

    @property
    def waiting(self) -> bool:
        """There is something to send, if only the windows allow it."""
        return bool(self.heads or self._buffer or self._finished) and not self.ended

    def emit(self, connection: H2Connection) -> int:
        """Hand one turn's frames to `connection`; the number of body bytes, -1 when nothing could go.

        Raises h2's ProtocolError when the stream is not open any more.
        """
        sent_head = self._emit_heads(connection)
        if self.ended or not self.started:
            return 0 if sent_head else -1
        size = self._emit_body(connection)
        return max(size, 0) if sent_head else size

    def _emit_heads(self, connection: H2Connection) -> bool:
        heads, self.heads = self.heads, []
        for at, head in enumerate(heads, 1):
            final = self._headed and at == len(heads)
            bare = final and self._finished and not self._buffer and not self._trailers
            connection.send_headers(self.stream_id, head, end_stream=bare)
            self.started = final
            if bare:
                self._end()
        return bool(heads)

    def _emit_body(self, connection: H2Connection) -> int:
        if not self._buffer:
            return self._emit_end(connection)
        window = connection.local_flow_control_window(self.stream_id)
        size = min(len(self._buffer), window, connection.max_outbound_frame_size)
        if size <= 0:
            return -1
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        last = self._finished and not self._buffer and not self._trailers
        connection.send_data(self.stream_id, data, end_stream=last)
        if last:
            self._end()
        else:
            self._wake()
        return size

    def _emit_end(self, connection: H2Connection) -> int:
        if not self._finished:
            return -1
        if self._trailers:
            connection.send_headers(self.stream_id, self._trailers, end_stream=True)
        else:
            connection.end_stream(self.stream_id)
        self._end()
        return 0

    def _end(self) -> None:
        self.ended = True
        self._wake()

    def close(self) -> None:
        """Drop what waits; the application's waits raise. Safe to repeat."""
        self.closed = True
        self.heads = []
        self._buffer = bytearray()
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
