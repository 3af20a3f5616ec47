"""One exchange between Hypercorn's protocols and the ASGI application, with what ASGI can't say.

Beside `receive` and `send` the application finds this object in `scope["extensions"]["trio_gateway"]`:
a departure is told at once (not behind body messages), a reply can be cut, trailers and interim replies
pass, and credit for body bytes is given when the application comes back for more, which is when it is
done with them. Plain ASGI applications notice nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import unquote

import trio
from hypercorn.protocol.events import (
    Body,
    EndBody,
    Event,
    InformationalResponse,
    Request,
    Response,
    StreamClosed,
    Trailers,
)
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import HTTPScope

from trio_gateway.wire.request import RawHeaders

EXTENSION = "trio_gateway"
INTERIM = "trio_gateway.interim"

Message = dict[str, Any]

_PIECE = 64 * 1024
_CAPACITY = 256 * 1024  # of the inbox, where no window bounds it


class AsgiStream(HTTPStream):
    """See the module. The protocol feeds it and takes its events; it owns the way between."""

    ended = False  # the request is complete
    client_certificate = b""  # as in Hop
    on_departure: Callable[[str], None] | None = None
    on_wait: Callable[[], None] | None = None  # called before a reply waits for the client
    on_taken: Callable[[int], None] | None = None  # the application is done with so many bytes
    on_reset: Callable[[], None] | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.trailers: RawHeaders = []
        self._inbox = bytearray()
        self._taken = 0
        self._end_told = False
        self._changed = trio.Event()
        self._start: Message | None = None

    # ---- the protocol's side

    async def handle(self, event: Event) -> None:
        """Take one event of the protocol's."""
        if isinstance(event, Request):
            self.begin(event)
        elif isinstance(event, Body):
            self.feed(event.data)
            while len(self._inbox) > _CAPACITY and not self.closed:
                await self._changed.wait()
        elif isinstance(event, EndBody):
            self.end([])
        elif isinstance(event, StreamClosed):
            self.leave("the connection ended")

    def begin(self, request: Request) -> None:
        """Start the application on a request."""
        path, _, query = request.raw_path.partition(b"?")
        scope: Message = {
            "type": "http",
            "http_version": request.http_version,
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": request.method,
            "scheme": self.scheme,
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": request.headers,
            "client": self.client,
            "server": self.server,
            "state": request.state.copy(),
            "extensions": {EXTENSION: {"stream": self, "target": request.raw_path}},
        }
        self.scope = cast("HTTPScope", scope)
        self.task_group.spawn(self._run)

    def feed(self, data: bytes) -> None:
        """More of the request's body came."""
        if not self.closed:
            self._inbox += data
            self._tell()

    def end(self, trailers: RawHeaders) -> None:
        """The request is complete."""
        self.ended = True
        self.trailers = trailers
        self._tell()

    def leave(self, reason: str) -> None:
        """The client is gone, or done: nothing is delivered either way any more. Safe to repeat."""
        if self.closed:
            return
        self.closed = True
        self._inbox = bytearray()
        self._tell()
        if self.on_departure is not None:
            self.on_departure(reason)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _run(self) -> None:
        try:
            app = cast("Callable[..., Awaitable[None]]", self.app)  # typed for messages of typed dicts
            await app(self.scope, self.receive, self.app_send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            if not self.closed and self.state is not ASGIHTTPState.CLOSED:
                self.reset()  # what the application left unfinished must not look whole
            self.on_departure = None
            self.leave("the application returned")
            with trio.CancelScope(shield=True):  # nothing behind it waits for a peer
                await self.send(StreamClosed(stream_id=self.stream_id))
            self._let_go()

    def _let_go(self) -> None:
        """Hold nobody who holds this stream: an exchange goes when it is over, not when it is collected."""
        self.scope = {}  # type: ignore[typeddict-item]
        self.on_wait = self.on_taken = self.on_reset = None

    # ---- the application's side

    def attach(self, on_departure: Callable[[str], None], on_wait: Callable[[], None]) -> None:
        """Be told of the client's departure, and of each wait for it. A departure before is told now."""
        self.on_departure = on_departure
        self.on_wait = on_wait
        if self.closed:
            on_departure("left before the exchange began")

    def waits(self) -> None:
        """The reply waits for the client now."""
        if self.on_wait is not None:
            self.on_wait()

    def take(self, size: int = _PIECE) -> bytes:
        """Body bytes that are here already; they are credited when `receive` is called next."""
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        self._taken += len(data)
        return data

    async def receive(self) -> Message:
        """ASGI's `receive`; says again that the client left as often as it is asked."""
        if self._taken:
            taken, self._taken = self._taken, 0
            if self.on_taken is not None:
                self.on_taken(taken)
            self._tell()
        while not self.closed:
            if self._inbox or (self.ended and not self._end_told):
                data = self.take()
                self._end_told = self.ended and not self._inbox
                return {"type": "http.request", "body": data, "more_body": not self._end_told}
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def app_send(self, message: Any) -> None:
        """ASGI's `send`. Raises OSError when the client is gone, LinkStalled (one of them) when it stalls."""
        if self.closed:
            raise BrokenPipeError("the client left")
        kind = message["type"]
        if kind == "http.response.start" and self.state is ASGIHTTPState.REQUEST:
            await self._send_start(message)
        elif kind == "http.response.body" and self.state is ASGIHTTPState.RESPONSE:
            await self._send_body(message)
        elif kind == INTERIM and self.state is ASGIHTTPState.REQUEST:
            await self.send(
                InformationalResponse(
                    stream_id=self.stream_id, headers=message["headers"], status_code=message["status"]
                )
            )
        elif kind == "http.response.push":
            return  # server push is dead (RFC 9113 8.4 leaves it to us)
        else:
            raise RuntimeError(f"{kind} cannot be sent in state {self.state.name}")

    async def _send_start(self, message: Message) -> None:
        self._start = message
        self.state = ASGIHTTPState.RESPONSE
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        await self.send(
            Response(stream_id=self.stream_id, headers=headers, status_code=int(message["status"]))
        )

    async def _send_body(self, message: Message) -> None:
        data = message.get("body", b"")
        if data and self._has_body():
            await self.send(Body(stream_id=self.stream_id, data=bytes(data)))
        if not message.get("more_body", False):
            trailers = message.get("trailers")
            self.state = ASGIHTTPState.TRAILERS
            if trailers:
                await self.send(Trailers(stream_id=self.stream_id, headers=trailers))
            else:
                await self.send(EndBody(stream_id=self.stream_id))
            self.state = ASGIHTTPState.CLOSED

    def _has_body(self) -> bool:
        assert self._start is not None
        return self.scope["method"] != "HEAD" and self._start["status"] not in (204, 304)

    def reset(self) -> None:
        """Cut the reply so that the client can tell."""
        if self.on_reset is not None and not self.closed:
            self.on_reset()
