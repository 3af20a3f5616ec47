"""Both ends of a WebSocket around a gateway in memory; what they hear is read by wsproto."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from wsproto.handshake import generate_accept_token

from tests.support.client import Answer
from tests.support.doors import HOST, split
from tests.support.frames import TEXT, Reader, close, frame
from tests.support.stage import USERS, Stage
from tests.support.upstream import Received, Script, Wire
from trio_gateway.proxy.link import Link

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
"""A client's handshake."""


@define
class Peer:
    """One end of an open WebSocket. A client has the 101 in `answer`, a server the handshake in `request`."""

    link: Link
    is_client: bool
    reader: Reader = field(init=False)
    answer: Answer = field(init=False)
    request: Received = field(init=False)
    ended: bool = False  # the other end has closed the connection
    _taken: int = 0

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(from_client=not self.is_client)

    # ---- saying

    async def send(self, payload: bytes, opcode: int = TEXT, **how: Any) -> None:
        """A frame."""
        await self.link.send(frame(opcode, payload, masked=self.is_client, **how))

    async def close(self, code: int | None = None, reason: bytes = b"") -> None:
        """A close frame."""
        await self.link.send(close(code, reason, masked=self.is_client))

    # ---- hearing

    async def hear(self) -> bool:
        """Read once; whether anything came."""
        try:
            data = b"" if self.ended else await self.link.receive()
        except OSError:
            data = b""
        self.ended = not data
        self.reader.feed(data)
        assert self.reader.failed is None, self.reader.failed
        return bool(data)

    async def message(self) -> bytes:
        """The next whole message. Raises EOFError when the connection ends first."""
        while len(self.reader.messages) == self._taken:
            if not await self.hear():
                raise EOFError
        self._taken += 1
        return self.reader.messages[self._taken - 1]

    async def goodbye(self) -> tuple[int, str] | None:
        """Code and reason of the close frame that comes; None when the connection ends without one."""
        while self.reader.close is None and await self.hear():
            pass
        return self.reader.close

    async def end(self) -> None:
        """Wait for the end of the connection, whatever comes before, and close this side of it."""
        while await self.hear():
            pass
        self.link.close()


Handler = Callable[[Peer], Awaitable[None]]


def accepting(handler: Handler, *fields: bytes, behind: bytes = b"") -> Script:
    """A backend that takes every handshake. `fields` are added to its 101, `behind` comes with it."""

    async def script(wire: Wire) -> None:
        await handler(await accept(wire, await wire.head(), *fields, behind=behind))

    return script


async def accept(wire: Wire, request: Received, *fields: bytes, behind: bytes = b"") -> Peer:
    """Take a handshake."""
    (key,) = request.values(b"sec-websocket-key")
    answer = b"Sec-WebSocket-Accept: " + generate_accept_token(key)
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", answer]
    await wire.send(b"\r\n".join([*lines, *fields, b"", behind]))
    peer = Peer(wire.link, is_client=False)
    peer.request = request
    peer.reader.feed(wire.trailing())
    return peer


async def echo(peer: Peer) -> None:
    """Give every message back, and a close frame too."""
    try:
        while True:
            await peer.send(await peer.message())
    except EOFError:
        return


async def echo_and_close(peer: Peer) -> None:
    """Echo until the client says goodbye, and answer with the same code."""
    while peer.reader.close is None:
        before = len(peer.reader.messages)
        if not await peer.hear():
            return
        for message in peer.reader.messages[before:]:
            await peer.send(message)
    code, reason = peer.reader.close
    await peer.close(None if code == 1005 else code, reason.encode())


async def open_websocket(stage: Stage, *fields: str, target: str = USERS, behind: bytes = b"") -> Peer:
    """A client's WebSocket through the gateway, on a connection of its own; see `shake_hands`."""
    return await shake_hands((await stage.world.client()).link, *fields, target=target, behind=behind)


async def shake_hands(link: Link, *fields: str, target: str = USERS, behind: bytes = b"") -> Peer:
    """Open a WebSocket as its client. `behind` goes along with the handshake. Raises EOFError."""
    peer = Peer(link, is_client=True)
    await link.send(handshake(*fields, target=target) + behind)
    head = b""
    while b"\r\n\r\n" not in head:
        data = await link.receive()
        if not data:
            raise EOFError(head)
        head += data
    text, _, rest = head.partition(b"\r\n\r\n")
    peer.answer = _answer(text)
    assert peer.answer.status == 101, text
    peer.reader.feed(rest)
    return peer


def handshake(*fields: str, target: str = USERS, asked: tuple[str, ...] = FIELDS) -> bytes:
    """A client's handshake as bytes."""
    lines = [(b"Host", HOST), *split(asked), *split(fields)]
    return b"\r\n".join([f"GET {target} HTTP/1.1".encode(), *map(b": ".join, lines), b"", b""])


def _answer(text: bytes) -> Answer:
    status, *lines = text.split(b"\r\n")
    pairs = [line.split(b": ", 1) for line in lines]
    return Answer(int(status.split(b" ")[1]), [(name, value) for name, value in pairs])
