"""A link as the stream that Hypercorn's connection handler works on, and the way it is closed.

What was read from the connection before it was handed over comes out first. Writing goes through
`Link.send`, so a client that takes no bytes ends the connection at the link's own timers. Addresses come
from the link: in memory its socket is one of a nameless pair.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from trio_gateway.proxy.link import Link, LinkClosed
from trio_gateway.server.refusal import linger

# One read is parsed without a pause, so its size bounds how long tiny frames keep others waiting.
_READ_SIZE = 32 * 1024


class LinkStream:
    """What `hypercorn.trio.TCPServer` needs of a stream. Errors are Trio's: broken, or closed by us."""

    def __init__(self, link: Link, received: bytes = b"") -> None:
        self.socket = link
        self._received = received
        self.ended = False  # the peer sends no more, by FIN or by reset

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002  ours is smaller
        """The next bytes, b"" at the end. A checkpoint, so that a busy peer leaves others their turn."""
        await trio.lowlevel.checkpoint()
        if self._received:
            data, self._received = self._received, b""
            return data
        try:
            data = await self.socket.receive(_READ_SIZE)
        except LinkClosed:
            raise trio.ClosedResourceError from None
        except OSError as error:
            self.ended = True
            raise trio.BrokenResourceError(str(error)) from error
        self.ended = not data
        return data

    async def send_all(self, data: bytes) -> None:
        """Hand all of `data` to the kernel; the link's timers bound the wait. Not always a checkpoint."""
        self.socket.begin_message(None)  # each call is judged by itself
        try:
            await self.socket.send(data)
        except LinkClosed:
            raise trio.ClosedResourceError from None
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        """Send a FIN."""
        self.socket.shutdown_write()

    async def aclose(self) -> None:
        """Close at once."""
        self.socket.close()

    async def linger(self) -> None:
        """Close so that the last bytes survive."""
        if not self.ended:
            with suppress(OSError):
                await linger(self.socket)
        self.socket.close()
