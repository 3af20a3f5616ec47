"""The one writer of an HTTP/2 connection: it drains the streams' outboxes in turns.

Each stream with something to say gets one frame a turn, whatever its neighbours hold, and goes to the end
of the queue. What h2 has to say itself (acknowledgements, resets, windows) goes first. One write carries
one batch, so that heads leave with the first bytes of their bodies and a small reply is one write.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from attrs import define, field
from h2.exceptions import ProtocolError

from trio_gateway.server.h2_connection import ClientConnection
from trio_gateway.server.outbox import Outbox

_BATCH = 64 * 1024  # body bytes in one write
_CONTROL_HIGH_WATER = 64 * 1024  # answers to frames that wait for a client which does not read


@define(eq=False)
class Sender:
    """Runs until `close`; then what is left of h2's words is sent, and `run` returns.

    `on_data` is told of each body frame, `on_end` of each stream whose reply went out whole, `on_loss` of
    each whose client closed it.
    """

    connection: ClientConnection
    write: Callable[[bytes], Awaitable[None]]
    on_data: Callable[[], None]
    on_end: Callable[[int], None]
    on_loss: Callable[[int], None]
    outboxes: dict[int, Outbox] = field(factory=dict)
    closed: bool = False
    _control: bytes = b""
    _wake: trio.Event = field(factory=trio.Event)
    _sent: trio.Event = field(factory=trio.Event)

    def stir(self) -> None:
        """There is something to send."""
        self._wake.set()

    def spill(self, stream_id: int) -> None:
        """Hand what the windows allow of a stream to h2 at once: its reply is about to be cut."""
        outbox = self.outboxes.get(stream_id)
        while outbox is not None and outbox.waiting and self._emit(outbox) >= 0:
            pass

    def drop(self, stream_id: int) -> None:
        """Send nothing more of a stream."""
        if outbox := self.outboxes.pop(stream_id, None):
            outbox.close()

    def collect(self, more: bytes = b"") -> None:
        """Take what h2 has to say, and `more` behind it: their amount is known then, and their order kept."""
        self._control += self.connection.data_to_send() + more
        self.stir()

    def close(self) -> None:
        """Send what h2 still has to say, then end."""
        self.closed = True
        for stream_id in list(self.outboxes):
            self.drop(stream_id)
        self.stir()

    async def answers_taken(self) -> None:
        """Let a client that asks for answers without reading them wait for itself."""
        self.collect()
        while len(self._control) > _CONTROL_HIGH_WATER and not self.closed:
            await self._sent.wait()

    async def run(self) -> None:
        """Send until closed."""
        while True:
            self._wake = trio.Event()
            self._fill()
            self._control += self.connection.data_to_send()
            if self._control:
                data, self._control = self._control, b""
                await self.write(data)
                self._sent.set()
                self._sent = trio.Event()
                await trio.lowlevel.checkpoint()  # the kernel may have taken all without a wait
            elif self.closed:
                return
            else:
                await self._wake.wait()

    def _fill(self) -> None:
        """Move one batch from the outboxes into h2."""
        moved, progress = 0, True
        while moved < _BATCH and progress:
            progress = False
            for outbox in [outbox for outbox in self.outboxes.values() if outbox.waiting]:
                size = self._emit(outbox)
                progress |= size >= 0
                moved += max(size, 0)
                if moved >= _BATCH:
                    break

    def _emit(self, outbox: Outbox) -> int:
        stream_id = outbox.stream_id
        try:
            size = outbox.emit(self.connection)
        except ProtocolError:
            self.on_loss(stream_id)
            return -1
        if outbox.ended:
            del self.outboxes[stream_id]
            self.on_end(stream_id)
        elif size > 0:
            self.outboxes[stream_id] = self.outboxes.pop(stream_id)
        if size > 0:
            self.on_data()
        return size
