"""Large bodies through the gateway, with a hash at either end and never a whole one in memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import trio
from attrs import define, field
from h2.events import DataReceived, Event

from tests.e2e.started import GatewayProcess
from tests.support.h2client import H2Client
from tests.support.upstream import Wire
from trio_gateway.proxy.link import Link

PIECE = 128 * 1024
PATH = b"/orchestrator/users"
_NOISE = random.Random(20).randbytes(PIECE)
_WINDOW = 1024 * 1024


def pieces(size: int) -> Iterator[bytes]:
    """`size` bytes; no two pieces are equal, so a swap or a loss shows in the hash."""
    for at in range(0, size, PIECE):
        yield (at.to_bytes(8, "big") + _NOISE[8:])[: size - at]


@define
class Tally:
    """How many bytes, and their hash."""

    size: int = 0
    _hash: Any = field(factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        """Count and hash a piece."""
        self.size += len(data)
        self._hash.update(data)

    def result(self) -> tuple[int, str]:
        """Size and hash so far."""
        return self.size, self._hash.hexdigest()


def expected(size: int) -> tuple[int, str]:
    """What a `Tally` of all pieces says."""
    tally = Tally()
    for piece in pieces(size):
        tally.add(piece)
    return tally.result()


async def read_head(link: Link) -> tuple[bytes, bytes]:
    """A message's head, and the bytes behind it that came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await link.receive()
        if not more:
            raise EOFError("the connection ended inside a head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def content_length(head: bytes) -> int:
    """The length that a head announces."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return int(fields[b"content-length"])


async def read_body(link: Link, head: bytes, rest: bytes, tally: Tally) -> None:
    """Add a body of known length to `tally`."""
    length = content_length(head)
    tally.add(rest)
    while tally.size < length:
        data = await link.receive(PIECE)
        if not data:
            raise EOFError(f"cut at {tally.size} of {length}")
        tally.add(data)
        await trio.lowlevel.checkpoint()


class Backend:
    """A backend that takes any upload and tells its hash, or sends as many bytes as the query asks for."""

    async def __call__(self, wire: Wire) -> None:
        """Serve one connection."""
        while True:
            head, rest = await read_head(wire.link)
            target = head.split(b" ", 2)[1]
            if head.startswith(b"POST"):
                tally = Tally()
                await read_body(wire.link, head, rest, tally)
                await wire.reply(repr(tally.result()).encode())
            else:
                await send_pieces(wire, int(target.partition(b"?")[2]))


async def send_pieces(wire: Wire, size: int) -> None:
    """A reply of `size` bytes."""
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    for piece in pieces(size):
        await wire.send(piece)
        await trio.lowlevel.checkpoint()


class Door(Protocol):
    """A way of one kind of client through the gateway."""

    async def upload(self, gateway: GatewayProcess, size: int) -> bytes:
        """Send all pieces; the backend's answer."""
        ...

    async def download(self, gateway: GatewayProcess, size: int) -> tuple[int, str]:
        """Fetch all pieces; their size and hash."""
        ...


class Lane:
    """HTTP/1.1."""

    async def upload(self, gateway: GatewayProcess, size: int) -> bytes:
        """See Door."""
        link = await gateway.connect()
        await link.send(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (PATH, size))
        for piece in pieces(size):
            await link.send(piece)
            await trio.lowlevel.checkpoint()
        head, body = await read_head(link)
        while len(body) < content_length(head):
            body += await link.receive()
        link.close()
        return body

    async def download(self, gateway: GatewayProcess, size: int) -> tuple[int, str]:
        """See Door."""
        link = await gateway.connect()
        await link.send(b"GET %b?%d HTTP/1.1\r\nHost: a\r\n\r\n" % (PATH, size))
        tally = Tally()
        await read_body(link, *await read_head(link), tally)
        link.close()
        return tally.result()


class Tallying(H2Client):
    """An HTTP/2 client that keeps no body: each frame goes to `on_data` and is credited."""

    on_data: Callable[[bytes], None]

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                self.on_data(event.data or b"")
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        super()._take([event for event in events if not isinstance(event, DataReceived)])


class Http2:
    """HTTP/2 by prior knowledge."""

    async def upload(self, gateway: GatewayProcess, size: int) -> bytes:
        """See Door."""
        async with gateway.h2() as client:
            length = [(b"content-length", b"%d" % size)]
            stream = await client.request(b"POST", PATH, length, end=False)
            sent = 0
            for piece in pieces(size):
                sent += len(piece)
                await client.send(stream, piece, end=sent == size)
                await trio.lowlevel.checkpoint()
            return bytes((await client.reply(stream)).body)

    async def download(self, gateway: GatewayProcess, size: int) -> tuple[int, str]:
        """See Door."""
        tally = Tally()
        client = Tallying(await gateway.connect())
        client.on_data = tally.add
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pump)
            await client.start(initial_window=_WINDOW)
            await client.open_window(_WINDOW)
            stream = await client.request(b"GET", PATH + b"?%d" % size)
            reply = await client.reply(stream)
            assert reply.ended, reply
            client.link.close()
            nursery.cancel_scope.cancel()
        return tally.result()


DOORS: dict[str, Door] = {"lane": Lane(), "h2": Http2()}
