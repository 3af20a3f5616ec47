"""One client for both doors: what a behaviour test says once, holds for HTTP/1.1 and for HTTP/2.

A `Caller` is a client connection, a `Call` one request on it. Both only pull: what is not asked for with
`piece` stays unread in the kernel or behind the stream's window. Fields are written as lines,
`"Name: value"`, octet for character (Latin-1), so any octet can be sent.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import h11
import trio
from attrs import define, field
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from tests.support.client import Answer
from tests.support.h2client import Fields, H2Client, H2Reply
from trio_gateway.proxy.link import Link

HOST = b"gateway.example"
_MAX_REPLY_HEAD = 256 * 1024
_FRAME = 16 * 1024


class Cut(Exception):
    """The reply broke off so that its client can tell."""


class Call(Protocol):
    """One request and its reply. `hints` are the interim replies that came before the final one."""

    hints: list[tuple[int, Fields]]

    async def send(self, data: bytes) -> None:
        """A piece of the request's body. Raises Cut when nobody takes it any more."""
        ...

    async def end(self, *trailers: str) -> None:
        """The end of a request without a length; one with a length ends with its last byte."""
        ...

    async def head(self) -> Answer:
        """The final reply's head. Raises Cut."""
        ...

    async def piece(self) -> bytes | None:
        """The next piece of its body, None at its end. Raises Cut."""
        ...

    async def answer(self) -> Answer:
        """The whole reply. Raises Cut."""
        ...

    async def leave(self) -> None:
        """Give this exchange up: FIN on HTTP/1.1, RST_STREAM on HTTP/2."""
        ...


class Caller(Protocol):
    """One client connection."""

    async def open(
        self,
        method: str,
        target: str,
        *fields: str,
        body: bytes | None = None,
        stream: bool = False,
        length: int | None = None,
    ) -> Call:
        """Begin a request: with `body` it goes whole; `stream` or `length` say that `send` brings it."""
        ...

    async def fetch(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Answer:
        """A whole request and its whole reply."""
        ...

    def vanish(self) -> None:
        """Close the connection at once. Safe to repeat."""
        ...

    def reset(self) -> None:
        """Close it with a reset."""
        ...

    async def closed(self) -> None:
        """Wait until the gateway closed it."""
        ...


def split(fields: tuple[str, ...]) -> Fields:
    """Lines as pairs."""
    pairs = [line.partition(":")[::2] for line in fields]
    return [(name.encode("latin-1"), value.strip(" ").encode("latin-1")) for name, value in pairs]


class _Call:
    """What the calls of both doors share."""

    def __init__(self) -> None:
        self.hints: list[tuple[int, Fields]] = []

    async def head(self) -> Answer:
        raise NotImplementedError

    async def piece(self) -> bytes | None:
        raise NotImplementedError

    def trailers(self) -> Fields:
        raise NotImplementedError

    async def answer(self) -> Answer:
        answer = await self.head()
        while (piece := await self.piece()) is not None:
            answer.body += piece
        answer.trailers = self.trailers()
        return answer


class _Caller:
    """What the callers of both doors share."""

    link: Link

    async def fetch(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Answer:
        return await (await self.open(method, target, *fields, body=body)).answer()  # type: ignore[attr-defined]

    def vanish(self) -> None:
        self.link.close()

    def reset(self) -> None:
        self.link.abort()


async def read_cut(call: Call, pause: float = 0.0) -> bytes:
    """The body of a reply that must break off, a piece each `pause` seconds."""
    body = b""
    try:
        while (piece := await call.piece()) is not None:
            body += piece
            await trio.sleep(pause)
    except Cut:
        return body
    raise AssertionError("the reply is whole")


async def push(call: Call, piece: bytes, times: int, pause: float = 0.0) -> None:
    """Send a body piece by piece until it is done or nobody takes it any more."""
    with contextlib.suppress(Cut):
        for _ in range(times):
            await trio.sleep(pause)
            await call.send(piece)


# ---- the lane -------------------------------------------------------------------------------------


class LaneCaller(_Caller):
    """An HTTP/1.1 connection; calls are answered in the order in which they were opened."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.unread = b""  # behind the last reply

    async def open(
        self,
        method: str,
        target: str,
        *fields: str,
        body: bytes | None = None,
        stream: bool = False,
        length: int | None = None,
    ) -> LaneCall:
        pairs = split(fields)
        if not any(name.lower() == b"host" for name, _ in pairs):
            pairs.insert(0, (b"Host", HOST))
        chunked = stream and length is None
        if chunked:
            pairs.append((b"Transfer-Encoding", b"chunked"))
        elif length is not None or body is not None:
            pairs.append((b"Content-Length", b"%d" % (length if length is not None else len(body or b""))))
        lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), *map(b": ".join, pairs), b"", b""]
        await self.link.send(b"\r\n".join(lines) + (body or b""))
        return LaneCall(self, method, chunked=chunked)

    async def closed(self) -> None:
        try:
            while await self.link.receive():
                pass
        except OSError:
            pass


class LaneCall(_Call):
    """A call over HTTP/1.1, its reply read by h11."""

    def __init__(self, caller: LaneCaller, method: str, *, chunked: bool) -> None:
        super().__init__()
        self._caller = caller
        self._chunked = chunked
        self._trailers: Fields = []
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_REPLY_HEAD)
        self._parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        self._parser.send(h11.EndOfMessage())

    async def send(self, data: bytes) -> None:
        try:
            await self._caller.link.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        except OSError as error:
            raise Cut(str(error)) from None

    async def end(self, *trailers: str) -> None:
        if self._chunked:
            lines = [b"0", *map(b": ".join, split(trailers)), b"", b""]
            await self._caller.link.send(b"\r\n".join(lines))

    async def head(self) -> Answer:
        if self._caller.unread:
            self._parser.receive_data(self._caller.unread)
            self._caller.unread = b""
        while isinstance(event := await self._event(), h11.InformationalResponse):
            self.hints.append((event.status_code, list(event.headers.raw_items())))
        if not isinstance(event, h11.Response):
            raise Cut(repr(event))
        return Answer(event.status_code, list(event.headers.raw_items()), reason=bytes(event.reason))

    async def piece(self) -> bytes | None:
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise Cut(repr(event))
        self._trailers = list(event.headers.raw_items())
        self._caller.unread, _ = self._parser.trailing_data
        return None

    def trailers(self) -> Fields:
        return self._trailers

    async def leave(self) -> None:
        self._caller.vanish()

    async def _event(self) -> h11.Event | type[h11.NEED_DATA]:
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(await self._caller.link.receive())
        except (OSError, h11.RemoteProtocolError) as error:
            raise Cut(str(error)) from None
        return event


# ---- HTTP/2 ---------------------------------------------------------------------------------------


@define(eq=False)
class H2Caller(_Caller):
    """An HTTP/2 connection; its calls are independent of each other."""

    client: H2Client = field()

    @property
    def link(self) -> Link:  # type: ignore[override]
        """The connection below."""
        return self.client.link

    @classmethod
    async def start(cls, link: Link, nursery: trio.Nursery) -> H2Caller:
        """Shake hands; the reader runs in `nursery`. Only the streams' windows hold replies back."""
        client = H2Client(link, acknowledge=False)
        nursery.start_soon(client.pump)
        await client.start()
        await client.open_window(2**30)
        return cls(client)

    async def open(
        self,
        method: str,
        target: str,
        *fields: str,
        body: bytes | None = None,
        stream: bool = False,
        length: int | None = None,
    ) -> H2Call:
        pairs = [(name.lower(), value) for name, value in split(fields)]
        authority = next((value for name, value in pairs if name == b"host"), HOST)
        pairs = [pair for pair in pairs if pair[0] != b"host"]
        if length is not None or (body is not None and not stream):
            pairs.append((b"content-length", b"%d" % (length if length is not None else len(body or b""))))
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", authority),
            (b":path", target.encode("latin-1")),
        ]
        streamed = stream or length is not None
        small = body is not None and not streamed and len(body) <= _FRAME  # it goes along with the head
        stream_id = await self.client.raw_request(
            [*pseudo, *pairs], end=not streamed and body is None, body=body if small else None
        )
        if body and not small:
            await self.client.send(stream_id, body, end=not streamed)
        return H2Call(self.client, self.client.replies[stream_id], length)

    async def closed(self) -> None:
        await self.client.closed()


class H2Call(_Call):
    """A call over HTTP/2. A piece is acknowledged when it is taken."""

    def __init__(self, client: H2Client, reply: H2Reply, length: int | None) -> None:
        super().__init__()
        self._due = length
        self._client = client
        self._reply = reply
        self._taken = 0

    async def send(self, data: bytes) -> None:
        if self._due is not None:
            self._due -= len(data)
        try:
            await self._client.send(self._reply.stream_id, data, end=self._due == 0)
        except (ProtocolError, OSError) as error:
            raise Cut(str(error)) from None

    async def end(self, *trailers: str) -> None:
        lowered = [(name.lower(), value) for name, value in split(trailers)]
        await self._client.end(self._reply.stream_id, lowered or None)

    async def head(self) -> Answer:
        await self._until(lambda: self._reply.status)
        self.hints = self._reply.interim
        return Answer(self._reply.status, self._reply.headers)

    async def piece(self) -> bytes | None:
        await self._until(lambda: len(self._reply.body) > self._taken or self._reply.ended)
        data = bytes(self._reply.body[self._taken :])
        if not data:
            return None
        self._taken += len(data)
        if not self._reply.done:
            self._client.h2.acknowledge_received_data(len(data), self._reply.stream_id)
            await self._client.flush()
        return data

    def trailers(self) -> Fields:
        return self._reply.trailers

    async def leave(self) -> None:
        with contextlib.suppress(ProtocolError, OSError):  # it may be closed already
            await self._client.reset(self._reply.stream_id, ErrorCodes.CANCEL)

    async def _until(self, condition: object) -> None:
        assert callable(condition)
        try:
            while not condition():
                if self._reply.done:
                    raise Cut(f"RST_STREAM {self._reply.reset}")
                await self._client.change()
        except ConnectionError as error:
            raise Cut(str(error)) from None
