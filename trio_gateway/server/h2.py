"""HTTP/2 clients: Hypercorn's protocol with flow control by stream, resets, and bounds on everything.

The reader never waits for an application and never writes: a stream's bytes wait in its inbox, which its
window bounds, and credit is given when the application is done with them. One sender task drains the
streams' outboxes in turns, one frame each, so that neither a slow reader nor a closed window holds up a
neighbour. What is wrong with one stream resets that stream; only what is wrong with the connection, or a
flood, ends it, with a GOAWAY.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import trio
from attrs import define
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import (
    Body,
    EndBody,
    InformationalResponse,
    Request,
    Response,
    StreamClosed,
    Trailers,
)
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

from trio_gateway.config.model import ServerConfig
from trio_gateway.observe.metrics import Metrics
from trio_gateway.server.asgi_stream import AsgiStream
from trio_gateway.server.h2_connection import MAX_STREAMS, ClientConnection, FloodAccount
from trio_gateway.server.h2_head import H2Head, MalformedFields, read_head, read_trailers
from trio_gateway.server.h2_sender import Sender
from trio_gateway.server.inflow import Inflow
from trio_gateway.server.outbox import Outbox

_DRAIN_PING = b"draining"
_ROUND_TRIP = 1.0
_SMALL_UPDATE = 1024
_EARNED_BY_DATA = 3  # clients may answer each DATA frame with a ping and two window updates


@define(frozen=True)
class Incomplete(Event):
    """Bytes came that complete no frame; `complete` tells that the rest followed."""

    complete: bool


class H2(H2Protocol):
    """One HTTP/2 connection. `server_config` is read once: a reload shows on the next connection."""

    connection: ClientConnection

    def __init__(
        self, *args: Any, server_config: ServerConfig, metrics: Metrics, client_certificate: bytes = b""
    ) -> None:
        super().__init__(*args)
        limits = server_config.limits
        # A head that is a little too large gets its answer; one beyond any measure ends the connection.
        self.connection = ClientConnection(limits.head, decoded=8 * limits.head)
        self._server = server_config
        self._metrics = metrics
        self._client_certificate = client_certificate
        self._streams: dict[int, AsgiStream] = {}
        self._inflows: dict[int, Inflow] = {}
        self._flood = FloodAccount(trio.current_time())
        self._sender = Sender(
            self.connection,
            lambda data: self.send(RawData(data=data)),
            on_data=lambda: self._flood.earn(_EARNED_BY_DATA),
            on_end=self._finish,
            on_loss=lambda stream_id: self._abandon(stream_id, "the stream was closed"),
        )
        self._pinged = trio.Event()
        self._draining = False
        self._refuse_above: int | None = None
        self._partial = True
        self._requests = 0
        self._handlers: dict[type[H2Event], Callable[[Any], None]] = {
            RequestReceived: self._on_request,
            DataReceived: self._on_data,
            TrailersReceived: self._on_trailers,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            PingReceived: self._on_nuisance,
            PriorityUpdated: self._on_nuisance,
            RemoteSettingsChanged: self._on_settings,
            PingAckReceived: self._on_ping_ack,
            WindowUpdated: self._on_window,
        }

    @property
    def idle(self) -> bool:
        """No exchange is going on."""
        return not self._streams

    async def initiate(self, headers: object = None, settings: object = None) -> None:  # noqa: ARG002
        """Send our settings and start the sender. There is no upgrade from HTTP/1.1."""
        self.connection.initiate_connection()
        self.task_group.spawn(self.send_task)

    async def send_task(self) -> None:
        """Send until the connection is shut; the end of sending is its end."""
        await self._sender.run()
        await self.send(Closed())

    # ---- reading

    async def handle(self, event: Event) -> None:
        """Take bytes, or the news that the connection is over."""
        if isinstance(event, Closed):
            self._shut()
        elif isinstance(event, RawData) and not self.closed:
            await self._receive(event.data)

    async def _receive(self, data: bytes) -> None:
        frames = self.connection.frames
        try:
            events = self.connection.receive_data(data)
        except ProtocolError:  # h2 has its GOAWAY ready
            self._shut(None)
            return
        for event in events:
            if self.closed:  # an event before this one shut the connection
                return
            if handler := self._handlers.get(type(event)):
                handler(event)
        self._sender.stir()
        partial = self.connection.frames == frames
        if partial is not self._partial:
            self._partial = partial
            await self.send(Incomplete(complete=not partial))
        if self._streams:
            await self.send(Updated(idle=False))
        await self._sender.answers_taken()

    def _on_request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if (self._refuse_above is not None and stream_id > self._refuse_above) or self._is_crowded():
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._spend()
            return
        try:
            head = read_head(event.headers or ())
        except MalformedFields:
            self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            self._spend()
            return
        self._open(stream_id, head, ended=event.stream_ended is not None)
        self._requests += 1
        if self._requests == self._server.limits.requests_per_connection:
            self._metrics.connections_used_up += 1
            self.drain()

    def _is_crowded(self) -> bool:
        """As many streams are open as may be. The exchanges of those that were reset may still be ending."""
        held = len(self._streams)
        if MAX_STREAMS <= held < 2 * MAX_STREAMS:
            return self.connection.count_open(self._streams) >= MAX_STREAMS
        return held >= MAX_STREAMS

    def _open(self, stream_id: int, head: H2Head, *, ended: bool) -> None:
        server = self._server
        outbox = Outbox(stream_id, server.timeouts.write, server.limits.min_rate)
        stream = AsgiStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            stream_id,
        )
        stream.client_certificate = self._client_certificate
        stream.on_taken = lambda size: self._credit(stream_id, size)
        stream.on_reset = lambda: self._cut(stream_id)
        outbox.on_wait = stream.waits
        self._streams[stream_id] = stream
        self._sender.outboxes[stream_id] = outbox
        self._inflows[stream_id] = Inflow(head.headers)
        stream.ended = ended
        stream.begin(
            Request(
                stream_id=stream_id,
                headers=head.headers,
                http_version="2",
                method=head.method.decode("latin-1"),
                raw_path=head.path,
                state=self.connection_state,
            )
        )

    def _on_data(self, event: DataReceived) -> None:
        stream, inflow = self._streams.get(event.stream_id), self._inflows.get(event.stream_id)
        data = event.data or b""
        if stream is None or inflow is None or stream.closed:
            return
        if not data and event.stream_ended is None:
            self._spend()
        if not inflow.fits(len(data)):
            self._mismatch(event.stream_id)
            return
        stream.feed(data)
        padding = (event.flow_controlled_length or 0) - len(data)
        if padding:
            self._credit(event.stream_id, padding)

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        try:
            trailers = read_trailers(event.headers or ())
        except MalformedFields:
            self._mismatch(event.stream_id)
        else:
            if stream is not None:
                stream.trailers = trailers

    def _on_end(self, event: StreamEnded) -> None:
        stream, inflow = self._streams.get(event.stream_id), self._inflows.get(event.stream_id)
        if stream is None or inflow is None or stream.closed:
            return
        if not inflow.may_end:
            self._mismatch(event.stream_id)
        else:
            stream.end(stream.trailers)

    def _mismatch(self, stream_id: int) -> None:
        """The message breaks its own word (RFC 9113 8.1.1): it must not look whole to anyone."""
        self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR, "the request was malformed")

    def _on_reset(self, event: StreamReset) -> None:
        self._abandon(event.stream_id, "the client reset the stream")
        self._spend()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self.connection.bound_encoder()
        self._on_nuisance(event)

    def _on_ping_ack(self, event: PingAckReceived) -> None:
        if event.ping_data == _DRAIN_PING:
            self._pinged.set()

    def _on_window(self, event: WindowUpdated) -> None:
        if (event.delta or 0) < _SMALL_UPDATE:
            self._spend()

    def _on_nuisance(self, event: H2Event) -> None:  # noqa: ARG002
        self._spend()

    def _spend(self) -> None:
        if not self._flood.spend(trio.current_time()):
            self._shut(ErrorCodes.ENHANCE_YOUR_CALM)

    def _credit(self, stream_id: int, size: int) -> None:
        """Give window back, in steps: the bytes went on."""
        inflow, stream = self._inflows.get(stream_id), self._streams.get(stream_id)
        if inflow is None or stream is None or stream.ended or stream.closed:
            return
        if step := inflow.credit(size):
            with contextlib.suppress(ProtocolError):  # it may be closed already
                self.connection.increment_flow_control_window(step, stream_id)
            self._sender.stir()

    # ---- ends

    def _reset(self, stream_id: int, code: ErrorCodes, reason: str = "the stream was reset") -> None:
        with contextlib.suppress(ProtocolError):  # it may be closed already
            self.connection.reset_stream(stream_id, code)
        self._abandon(stream_id, reason)
        self._sender.stir()

    def _cut(self, stream_id: int) -> None:
        """The reply breaks off; the client gets what there is of it, and sees the cut."""
        outbox = self._sender.outboxes.get(stream_id)
        if outbox is not None:
            self._sender.spill(stream_id)
            if not outbox.ended:
                self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)

    def _abandon(self, stream_id: int, reason: str) -> None:
        self._sender.drop(stream_id)
        if stream := self._streams.get(stream_id):
            stream.leave(reason)

    def _shut(self, code: ErrorCodes | None = ErrorCodes.NO_ERROR) -> None:
        """Nothing more is read; a GOAWAY with `code` is sent, then the connection ends."""
        if self.closed:
            return
        self.closed = True
        if code is not None:
            self.connection.close_connection(code)
        for stream_id in list(self._streams):
            self._abandon(stream_id, "the connection ended")
        self._sender.close()

    def drain(self) -> None:
        """Finish what was begun, begin nothing else, then end the connection. Safe to repeat."""
        if not self._draining and not self.closed:
            self._draining = True
            self.task_group.spawn(self._drain)

    async def _drain(self) -> None:
        """Announce, wait one round trip for requests that are on their way, then fix the last one."""
        self._sender.collect(self.connection.goaway(final=False))
        self.connection.ping(_DRAIN_PING)
        self._sender.stir()
        with trio.move_on_after(_ROUND_TRIP):
            await self._pinged.wait()
        if not self.closed:
            self._refuse_above = self.connection.highest_inbound_stream_id
            self._sender.collect(self.connection.goaway(final=True))
            self._sender.stir()
            self._shut_when_drained()

    def _shut_when_drained(self) -> None:
        if self._refuse_above is not None and not self._streams:
            self._shut()

    # ---- writing

    async def stream_send(self, event: StreamEvent) -> None:
        """Take one event of an AsgiStream's. Raises OSError as `Outbox.room` does."""
        if isinstance(event, StreamClosed):
            await self._retire(event.stream_id)
            return
        outbox = self._sender.outboxes.get(event.stream_id)
        if outbox is None:
            raise BrokenPipeError("the stream was closed")
        if isinstance(event, (Response, InformationalResponse)):
            head = [(b":status", b"%d" % event.status_code), *event.headers]
            outbox.put_head(head, final=isinstance(event, Response))
            self._sender.stir()
        elif isinstance(event, Body):
            outbox.put(event.data)
            self._sender.stir()
            await outbox.room()
        elif isinstance(event, (EndBody, Trailers)):
            outbox.finish(event.headers if isinstance(event, Trailers) else [])
            self._sender.stir()
            await outbox.drained()
            self._flood.earn()

    async def _retire(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self._inflows.pop(stream_id, None)
        self._sender.drop(stream_id)
        if not self.closed:
            self._shut_when_drained()
            if not self._streams:
                await self.send(Updated(idle=True))

    def _finish(self, stream_id: int) -> None:
        """The reply is complete. A request that is not need not go on (RFC 9113 8.1)."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended:
            with contextlib.suppress(ProtocolError):
                self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)
