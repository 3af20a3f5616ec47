"""The backend of a storm: each reply is drawn, with what may go wrong on its way."""

from __future__ import annotations

import random
from itertools import pairwise

import trio
from attrs import define

from tests.support.storm.dice import PAUSES, Frozen, filled
from tests.support.storm.websocket import accept
from tests.support.upstream import Received, Wire

_SIZES = (0, 1, 900, 5000, 5000, 300_000)
_ENDS = ("whole",) * 16 + ("cut", "reset", "silent", "extra", "unasked", "unasked", "garbage")
_TAKES = ("all",) * 12 + ("sips", "nothing", "late", "late", "vanish")
_EVIL = b"HTTP/1.1 200 OK\r\nX-Nonce: evil\r\nContent-Length: 4\r\n\r\nevil"


@define
class StormBackend:
    """Serves one connection after the other of any kind; a `calm` one only answers.

    `once` are the nonces of what must not come twice, to whichever backend.
    """

    chance: random.Random
    frozen: Frozen
    once: set[bytes]
    calm: bool = False

    async def __call__(self, wire: Wire) -> None:
        """See Script."""
        while await self._exchange(wire):
            pass

    async def _exchange(self, wire: Wire) -> bool:
        head = await wire.head()
        nonce = nonce_of(head)
        if head.method == b"POST":
            assert nonce not in self.once, "sent twice"
            self.once.add(nonce)
        if head.values(b"sec-websocket-key"):
            await accept(wire, head, nonce, self.chance, self.frozen)
            return False
        takes = self.chance.choice(_TAKES) if self.frozen.wild and not self.calm else "all"
        if takes == "vanish":
            return False
        if takes in ("all", "sips"):
            await self._take(wire, head, 0.05 if takes == "sips" else 0)
        await self.frozen.checkpoint(0 if self.calm else self.chance.choice(PAUSES))
        keep = await self._reply(wire, head)
        if keep and takes == "late":
            await self._take(wire, head, 0)
        return keep and takes != "nothing"

    async def _take(self, wire: Wire, head: Received, pause: float) -> None:
        """The request's body, checked; read slowly it fills what is between."""
        while (piece := await wire.piece()) is not None:
            head.body += piece
            if pause:
                await self.frozen.checkpoint(pause)
        nonce = nonce_of(head)
        assert head.body == filled(nonce, len(head.body)), "a body met another head"

    async def _reply(self, wire: Wire, head: Received) -> bool:
        """Send a reply, or what shall pass for one; whether the connection goes on."""
        if self.calm:
            await wire.reply(b"", b"X-Nonce: " + nonce_of(head), b"X-Size: 0")
            return True
        end = self.chance.choice(_ENDS) if self.frozen.wild else "whole"
        message, keep = self._message(nonce_of(head), head.method, end)
        pieces = self._pieces(message)
        if end == "extra" and keep:  # from the last bytes on: later, nobody could know whose they are
            pieces[-1] += _EVIL[:9]
        for at, piece in enumerate(pieces):
            if at:
                await self.frozen.checkpoint(self.chance.choice(PAUSES) if len(message) < 9000 else 0)
            await wire.send(piece)
        if end == "extra" and keep:
            await wire.send(_EVIL[9:])
            await wire.closed()
        if end == "reset":
            wire.link.abort()
        elif end == "silent":
            await wire.closed()
        elif end == "unasked" and keep:
            await self._speak_unasked(wire)
        return keep and end == "whole"

    async def _speak_unasked(self, wire: Wire) -> None:
        """Send what nobody asked for while the connection is idle; the gateway must not ask behind it."""
        await trio.sleep(0.003)
        if wire.link.is_quiet():
            await wire.send(_EVIL)
            await wire.closed()

    def _message(self, nonce: bytes, method: bytes, end: str) -> tuple[bytes, bool]:
        """The bytes of a reply, and whether another may follow."""
        if end == "garbage":
            return b"X-Nonce: evil\r\n\r\n", False
        size = self.chance.choice(_SIZES)
        body = filled(nonce, size)
        head = b"HTTP/1.1 200 OK\r\nX-Nonce: %b\r\n" % nonce
        if self.chance.random() < 0.1:
            head = b"HTTP/1.1 103 Early Hints\r\nX-Hint: %b\r\n\r\n" % nonce + head
        framing = self.chance.choice(("length", "length", "chunked", "close"))
        if framing != "close":  # there nobody can tell a cut from the end
            head += b"X-Size: %d\r\n" % size
        if framing == "chunked":
            head += b"Transfer-Encoding: chunked\r\n"
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in self._pieces(body) if part)
            body += b"0\r\n\r\n"
        elif framing == "length":
            head += b"Content-Length: %d\r\n" % size
        message = head + b"\r\n" + (b"" if method == b"HEAD" else body)
        if end in ("cut", "reset", "silent"):
            message = message[: self.chance.randrange(len(message))]
        return message, framing != "close"

    def _pieces(self, data: bytes) -> list[bytes]:
        """The data, cut in a few places; no piece is empty but that of no data."""
        cuts = {
            self.chance.randrange(1, len(data))
            for _ in range(self.chance.choice((0, 0, 1, 3)) if data[1:] else 0)
        }
        places = [0, *sorted(cuts), len(data)]
        return [data[at:to] for at, to in pairwise(places)]


def nonce_of(received: Received) -> bytes:
    """The one nonce of a request: its places agree."""
    (nonce,) = received.values(b"x-nonce")
    assert received.target.rpartition(b"/")[2] == nonce
    assert received.values(b"x-request-id") == [nonce]
    return nonce
