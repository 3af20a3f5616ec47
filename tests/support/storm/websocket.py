"""WebSockets in a storm: what their two ends do, and that nobody hears what was said elsewhere."""

from __future__ import annotations

import contextlib
import random

from wsproto.handshake import generate_accept_token

from tests.support.frames import BINARY, CONTINUATION, PING
from tests.support.storm.dice import PAUSES, Frozen, filled
from tests.support.upstream import Received, Wire
from tests.support.websocket import Peer, handshake

_NO_FRAME = b"\xff" * 20  # reserved bits and an unknown opcode, whatever comes before
_MOODS = ("echo",) * 8 + ("refuse", "lie", "vanish", "silent", "cut", "babble")


async def accept(wire: Wire, head: Received, nonce: bytes, chance: random.Random, frozen: Frozen) -> None:
    """The backend's end, from the handshake on."""
    mood = chance.choice(_MOODS) if frozen.wild else "echo"
    await frozen.checkpoint(chance.choice(PAUSES))
    if mood == "refuse":
        await wire.reply(b"", b"X-Nonce: " + nonce)
        return
    (key,) = head.values(b"sec-websocket-key")
    token = generate_accept_token(key if mood != "lie" else b"another key")
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    fields = [b"Sec-WebSocket-Accept: " + token, b"X-Nonce: " + nonce]
    await wire.send(b"\r\n".join([*lines, *fields, b"", b""]))
    peer = Peer(wire.link, is_client=False)
    peer.reader.feed(wire.trailing())
    if mood == "vanish":
        return
    if mood == "silent":
        await wire.closed()
    elif mood == "babble":
        await wire.send(_NO_FRAME)
        await wire.closed()
    else:
        await _echo(peer, nonce, chance, frozen, cut=mood == "cut")


async def _echo(peer: Peer, nonce: bytes, chance: random.Random, frozen: Frozen, *, cut: bool) -> None:
    """Give back what comes, some of it in fragments, and in the end the close frame."""
    given = 0
    while await peer.hear():
        for message in peer.reader.messages[given:]:
            assert message == filled(nonce, len(message)), "a message met another WebSocket"
            await say(peer, message, chance, frozen)
            given += 1
            if cut and given == 2:
                return
        if peer.reader.close is not None:
            await peer.close(peer.reader.close[0])
            return


async def say(peer: Peer, message: bytes, chance: random.Random, frozen: Frozen) -> None:
    """Send a message: whole or in two fragments, with a ping between them."""
    half = chance.choice((0, 0, len(message) // 2))
    if half:
        await peer.send(message[:half], BINARY, fin=False)
        await frozen.checkpoint(chance.choice(PAUSES))
        await peer.send(b"", PING)
    await peer.send(message[half:], CONTINUATION if half else BINARY)


async def talk(peer: Peer, nonce: bytes, chance: random.Random, frozen: Frozen, stall: float) -> None:
    """The client's end, behind the 101: say some things, hear some, and leave in one way or another.

    In fair weather it hears all: one that talks on and an echo that hears nothing while it speaks would wait
    for each other, with or without a gateway.
    """
    heard = 0
    for _ in range(chance.randint(0, 4)):
        await say(peer, filled(nonce, chance.choice((0, 5, 3000, 100_000))), chance, frozen)
        await frozen.checkpoint(chance.choice(PAUSES))
        if chance.random() < 0.8 or not frozen.wild:
            with contextlib.suppress(EOFError):
                message = await peer.message()
                heard += 1
                assert message == filled(nonce, len(message)), "heard what another was told"
    how = chance.random()
    if how < 0.5:
        await peer.close(1000)
        await peer.goodbye()
    elif how < 0.6:
        await peer.link.send(_NO_FRAME)
        await peer.goodbye()
    elif how < 0.8:
        await frozen.checkpoint(stall)


def opening(target: str, nonce: str) -> bytes:
    """The client's handshake."""
    return handshake(f"X-Nonce: {nonce}", f"X-Request-ID: {nonce}", target=target)
