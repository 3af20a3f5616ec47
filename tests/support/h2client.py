"""A raw HTTP/2 client over a link: it sends what it is told, in order, and remembers what came.

Nothing is sent on its own but acknowledgements, and those can be switched off: window updates
(`acknowledge = False`: the client stops reading) and pings and settings (h2 answers them itself).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

import trio
from attrs import define, field
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from h2.stream import StreamClosedBy
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame

from trio_gateway.proxy.link import Link

Fields = list[tuple[bytes, bytes]]

_SHIELDED = 10.0


@define(eq=False)
class H2Reply:
    """What came on one stream so far."""

    stream_id: int
    status: int = 0
    headers: Fields = field(factory=list)
    body: bytearray = field(factory=bytearray)
    trailers: Fields = field(factory=list)
    interim: list[tuple[int, Fields]] = field(factory=list)
    ended: bool = False
    reset: int | None = None  # the error code of a RST_STREAM
    pieces: list[tuple[float, bytes]] = field(factory=list)  # each DATA frame and when it came

    def header(self, name: bytes) -> bytes | None:
        """The first field of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def header_list(self, name: bytes) -> list[bytes]:
        """All fields of that name."""
        return [value for key, value in self.headers if key == name]

    @property
    def done(self) -> bool:
        """Complete or cut."""
        return self.ended or self.reset is not None


class _PatientConnection(H2Connection):
    """h2 takes a GOAWAY for the end of everything; open streams go on (RFC 9113 6.8).

    And it takes an interim reply that crosses our own reset for a fault (5.1: it is to be ignored).
    """

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        stream = self.streams.get(frame.stream_id)
        if stream is not None and stream.closed_by is StreamClosedBy.SEND_RST_STREAM:
            self.decoder.decode(frame.data)  # the compression's state goes on
            return [], []
        return super()._receive_headers_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        state, waiting = self.state_machine.state, self.data_to_send()
        found = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        self._data_to_send += waiting
        return found


@define(eq=False)
class H2Client:
    """One client connection. Use it in `async with open_h2(link) as client`."""

    link: Link
    authority: bytes = b"gateway.test"
    acknowledge: bool = True
    h2: H2Connection = field(init=False)
    replies: dict[int, H2Reply] = field(factory=dict)
    events: list[Event] = field(factory=list)
    goaway: ConnectionTerminated | None = None
    ended: bool = False  # the server closed the connection
    _changed: trio.Event = field(factory=trio.Event)
    _sending: trio.Lock = field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.h2 = _PatientConnection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=True,
            )
        )

    # ---- sending

    async def start(self, *, initial_window: int | None = None, preface: bool = True) -> Self:
        """Send the preface and our settings."""
        if initial_window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = initial_window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        data = self.h2.data_to_send()
        await self.link.send(data if preface else data[24:])
        return self

    async def request(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        end: bool = True,
        body: bytes | None = None,
    ) -> int:
        """Open a stream. With `body` it goes along, whole; otherwise `end` says whether any follows."""
        pseudo = [
            (b":method", method),
            (b":scheme", b"http"),
            (b":authority", self.authority),
            (b":path", path),
        ]
        return await self.raw_request([*pseudo, *headers], end=end and body is None, body=body)

    async def raw_request(self, fields: Fields, *, end: bool = True, body: bytes | None = None) -> int:
        """Open a stream with exactly these fields."""
        stream_id = self.h2.get_next_available_stream_id()
        self.replies[stream_id] = H2Reply(stream_id)
        self.h2.send_headers(stream_id, fields, end_stream=end)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send body bytes as the windows allow, waiting for more."""
        while data:
            size = await self.window(stream_id)
            piece, data = data[:size], data[size:]
            self.h2.send_data(stream_id, piece, end_stream=end and not data)
            await self.flush()

    async def window(self, stream_id: int) -> int:
        """How many bytes may go in one frame now; waits for the first."""
        while (
            size := min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
        ) <= 0:
            await self.change()
        return size

    async def end(self, stream_id: int, trailers: Fields | None = None) -> None:
        """End the request."""
        if trailers is None:
            self.h2.end_stream(stream_id)
        else:
            self.h2.send_headers(stream_id, trailers, end_stream=True)
        await self.flush()

    async def reset(self, stream_id: int, code: int = ErrorCodes.CANCEL) -> None:
        """Send RST_STREAM."""
        self.h2.reset_stream(stream_id, code)
        await self.flush()

    async def open_window(self, size: int, stream_id: int | None = None) -> None:
        """Send WINDOW_UPDATE."""
        self.h2.increment_flow_control_window(size, stream_id)
        await self.flush()

    async def raw(self, data: bytes) -> None:
        """Send bytes past h2."""
        async with self._sending:
            await self.link.send(self.h2.data_to_send() + data)

    async def flush(self) -> None:
        """Send what h2 has ready; half of it would break the connection, so that is not cancelled."""
        async with self._sending:
            if data := self.h2.data_to_send():
                with trio.move_on_after(_SHIELDED, shield=True):
                    await self.link.send(data)

    # ---- receiving

    async def change(self) -> None:
        """Wait until something came. Raises ConnectionError when nothing can come any more."""
        if self.ended:
            raise ConnectionError("the server closed the connection")
        await self._changed.wait()

    async def wait_for(self, condition: Any) -> None:
        """Wait until `condition()` holds."""
        while not condition():
            await self.change()

    async def reply(self, stream_id: int) -> H2Reply:
        """The whole reply, complete or cut."""
        reply = self.replies[stream_id]
        await self.wait_for(lambda: reply.done)
        return reply

    async def head(self, stream_id: int) -> H2Reply:
        """The reply as soon as its head is there, or it was cut."""
        reply = self.replies[stream_id]
        await self.wait_for(lambda: reply.status or reply.done)
        return reply

    async def fetch(self, *args: Any, **options: Any) -> H2Reply:
        """`request` and its whole reply."""
        return await self.reply(await self.request(*args, **options))

    async def closed(self) -> None:
        """Wait until the server closed the connection."""
        while not self.ended:
            await self._changed.wait()

    async def pump(self) -> None:
        """Read until the connection ends; runs beside the test."""
        try:
            while data := await self.link.receive():
                self._take(self.h2.receive_data(data))
                await self.flush()
        except OSError:
            pass
        finally:
            self.ended = True
            self._tell()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            reply = self.replies.get(getattr(event, "stream_id", None) or 0)
            if isinstance(event, ConnectionTerminated):
                self.goaway = event
            elif reply is not None:
                self._note(reply, event)
        self._tell()

    def _note(self, reply: H2Reply, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            reply.status, reply.headers = _status(event.headers or [])
        elif isinstance(event, InformationalResponseReceived):
            reply.interim.append(_status(event.headers or []))
        elif isinstance(event, DataReceived):
            self._note_data(reply, event)
        elif isinstance(event, TrailersReceived):
            reply.trailers = [(bytes(name), bytes(value)) for name, value in event.headers or []]
        elif isinstance(event, StreamEnded):
            reply.ended = True
        elif isinstance(event, StreamReset):
            reply.reset = int(event.error_code or 0)

    def _note_data(self, reply: H2Reply, event: DataReceived) -> None:
        data = event.data or b""
        reply.body += data
        reply.pieces.append((trio.current_time(), data))
        if self.acknowledge:
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, reply.stream_id)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _status(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, Fields]:
    fields = [(bytes(name), bytes(value)) for name, value in headers]
    status = next(int(value) for name, value in fields if name == b":status")
    return status, [field for field in fields if field[0] != b":status"]


@asynccontextmanager
async def open_h2(link: Link, **options: Any) -> Any:
    """A started client whose reader runs until the block is left; then the link is closed."""
    start = {key: options.pop(key) for key in ("initial_window", "preface") if key in options}
    client = H2Client(link, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.pump)
        await client.start(**start)
        try:
            yield client
        finally:
            link.close()
            nursery.cancel_scope.cancel()
