"""The backend of a soak: it does what each request asks for, faults included, and checks what it gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio
from wsproto.handshake import generate_accept_token

from bench.soaking.messages import CutError, Reader
from bench.soaking.talk import CUT, filled, head, reply_size
from tests.support.websocket import Peer, echo_and_close
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import RealNetwork

_IDLE = 0.005  # seconds before a late reply
_WRONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Number: 0\r\n\r\nwrong"


class Backend:
    """Serves connections. `mixed_up` tells of requests whose head and body were of two exchanges.

    `unasked` counts replies that were sent to an idle connection, and `met` are the requests that came
    behind one: when both were under way at once nobody could have known.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.open = 0
        self.mixed_up: list[str] = []
        self.unasked = 0
        self.met: set[int] = set()
        self.port = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept on a free loopback port until cancelled."""
        (listener,) = await RealNetwork().listen("127.0.0.1", 0)
        self.port = listener.address[1]
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                nursery.start_soon(self._connection, await listener.accept())

    async def _connection(self, link: Link) -> None:
        self.open += 1
        try:
            with contextlib.suppress(OSError, CutError), self._noted():
                reader = Reader(link)
                while deed := await self._exchange(reader):
                    if deed == "late" and await self._left_idle(link):
                        await self._meet(reader)
                        break
        finally:
            self.open -= 1
            link.close()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """What is no request was sent in the wrong place."""
        try:
            yield
        except ValueError as error:
            self.mixed_up.append(str(error))

    async def _left_idle(self, link: Link) -> bool:
        with trio.move_on_after(_IDLE):
            await link.readable()
        return link.is_quiet()

    async def _meet(self, reader: Reader) -> None:
        """Send what nobody asked for; the gateway should close, not ask."""
        await reader.link.send(_WRONG)
        self.unasked += 1
        if found := await reader.head():
            self.met.add(int(found[1][b"x-number"]))

    async def _exchange(self, reader: Reader) -> str:
        """Serve one request; what was done, or nothing when the connection does not go on."""
        found = await reader.head()
        if found is None:
            return ""
        (_, target, _), fields = found
        self.requests += 1
        if b"x-number" not in fields:
            self.mixed_up.append(f"a request of nobody: {found}")
            return ""
        if key := fields.get(b"sec-websocket-key"):
            await _converse(reader, key)
            return ""
        number = int(fields[b"x-number"])
        deed = target.partition(b"?")[2].decode()
        if deed == "early":
            await self._reply(reader.link, number, deed)
        self._check(number, target, await reader.body(fields))
        if deed == "reset":
            reader.link.abort()
            return ""
        if deed != "early":
            await self._reply(reader.link, number, deed)
        return "" if deed in ("close", "stale", *CUT) else deed

    def _check(self, number: int, target: bytes, body: bytes) -> None:
        if body != filled(number, len(body)) or not target.startswith(b"/%d?" % number):
            self.mixed_up.append(f"request {number}: {target!r} with {body[:40]!r}")

    async def _reply(self, link: Link, number: int, deed: str) -> None:
        body = filled(number, reply_size(number))
        fields = [(b"X-Number", b"%d" % number)]
        if deed == "close":
            fields.append((b"Connection", b"close"))
        if deed == "slow":
            await trio.sleep(0.001 * (number % 8))
        if deed.endswith("chunked"):
            await self._reply_in_chunks(link, fields, body, whole=deed == "chunked")
            return
        message = head(b"HTTP/1.1 200 OK", [*fields, (b"Content-Length", b"%d" % len(body))]) + body
        if deed == "cut":
            message = message[: len(message) - max(1, len(body) // 2)] if body else message
        elif deed == "extra":
            message += _WRONG
        await _send(link, message, pieces=5 if deed == "drip" else 1)

    async def _reply_in_chunks(
        self, link: Link, fields: list[tuple[bytes, bytes]], body: bytes, *, whole: bool
    ) -> None:
        half = len(body) // 2
        message = head(b"HTTP/1.1 200 OK", [*fields, (b"Transfer-Encoding", b"chunked")])
        for piece in (body[:half], body[half:]):
            if piece:
                message += b"%x\r\n%b\r\n" % (len(piece), piece)
        await _send(link, message, pieces=1)
        if whole:
            await link.send(b"0\r\n\r\n")


async def _converse(reader: Reader, key: bytes) -> None:
    """Give back what a WebSocket says, its goodbye included."""
    accept = (b"Sec-WebSocket-Accept", generate_accept_token(key))
    fields = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), accept]
    await reader.link.send(head(b"HTTP/1.1 101 Switching Protocols", fields))
    peer = Peer(reader.link, is_client=False)
    peer.reader.feed(reader.buffer)
    await echo_and_close(peer)


async def _send(link: Link, message: bytes, pieces: int) -> None:
    step = len(message) // pieces + 1
    for at in range(0, len(message), step):
        if at:
            await trio.sleep(0.001)
        await link.send(message[at : at + step])
