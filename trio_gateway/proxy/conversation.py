"""An open WebSocket: frames relayed as they come, and a parting that tells both sides why.

Two tasks relay, one a direction; what a slow reader leaves in its socket is never read here. Whatever ends
a conversation comes down to three steps: no further frame begins, each side that was not told yet gets a
close frame at its next frame boundary, and then each side has a moment to take it. A direction that
stopped inside a frame can't be told anything any more: its connection is cut, which is what 1006 means.
"""

from __future__ import annotations

import math
from contextlib import suppress

import trio

from trio_gateway.errors import (
    ClientGone,
    ClientStalled,
    ClientViolation,
    GatewayError,
    ShuttingDown,
    TotalTimeout,
    UpstreamStalled,
    UpstreamTruncated,
    UpstreamViolation,
    WebSocketIdle,
)
from trio_gateway.proxy.link import Link, LinkStalled
from trio_gateway.wire.websocket import GOING_AWAY, INTERNAL_ERROR, FrameScanner, close_frame

CLOSE_WAIT = 5.0
"""Seconds that a frame has to come to its end, and a close frame to be answered."""
LINGER = 2.0
"""Seconds that a peer has behind the last byte for it, to end the connection itself."""

_READ_SIZE = 16 * 1024  # scanned in one go: so many of the smallest frames keep others waiting for 5 ms
_PIECES_BEFORE_YIELD = 2


class Way:
    """One direction. `moved` counts the bytes that went on.

    `broken` says that the sink has an unknown part of what it was to get: nothing can follow. `told` says
    that a close frame went to it: nothing may follow.
    """

    __slots__ = (
        "_deserted",
        "_scope",
        "_sink",
        "_source",
        "broken",
        "cause",
        "done",
        "heard",
        "moved",
        "scanner",
        "told",
    )

    def __init__(self, source: Link, sink: Link, scanner: FrameScanner) -> None:
        self._source = source
        self._sink = sink
        self._scope = trio.CancelScope()
        self.scanner = scanner
        self.moved = 0
        self.heard = trio.current_time()
        self._deserted = False
        self.broken = False
        self.told = False
        self.done = False
        self.cause: OSError | None = None

    @property
    def closed(self) -> bool:
        """The source has said goodbye, and it went on."""
        return self.scanner.close_code is not None

    async def run(self, data: bytes | None) -> None:
        """Relay `data` and what comes behind it, until the scanner lets nothing on or one end fails."""
        try:
            with self._scope:
                await self._relay(data)
        except OSError as error:
            self.cause = error

    async def _relay(self, data: bytes | None) -> None:
        source, scanner = self._source, self.scanner
        pieces = 0
        while not scanner.over:
            if not data:
                data = source.receive_nowait(_READ_SIZE)
                if data is None:
                    await source.readable()
                    pieces = 0
                    continue
                if not data:
                    return
            self.heard = trio.current_time()
            if passed := scanner.feed(data):
                await self._push(passed)
            data = None
            pieces += 1
            if pieces % _PIECES_BEFORE_YIELD == 0:
                await trio.lowlevel.checkpoint()

    async def _push(self, data: bytes) -> None:
        self.broken = True  # until the kernel has all of it
        if rest := self._sink.send_nowait(data):
            if self._deserted:
                self.hurry()
            self._sink.begin_message(None)
            await self._sink.send_rest(rest)
        self.moved += len(data)
        self.broken = False

    def stop(self) -> None:
        """End at the next frame boundary: now, or as soon as the source and the sink let it come."""
        self.scanner.stop()
        if self.broken or not self.scanner.at_boundary:
            self.hurry()
        else:
            self._scope.cancel()

    def source_left(self) -> None:
        """Nobody waits for long any more to have the source's last bytes taken."""
        self._deserted = True
        if self.broken:
            self.hurry()

    def hurry(self) -> None:
        """End within CLOSE_WAIT."""
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_WAIT)

    async def say_goodbye(self, code: int, reason: str, *, masked: bool) -> None:
        """Give the sink a close frame, if it had none and one can stand there; CLOSE_WAIT at most."""
        if self.told or self.broken or not self.scanner.at_boundary:
            return
        self.told = self.broken = True
        with trio.move_on_after(CLOSE_WAIT), suppress(OSError):
            self._sink.begin_message(None)
            await self._sink.send(close_frame(code, reason, masked=masked))
            self.broken = False

    async def part(self) -> None:
        """End the sink's connection: FIN, and what it still says is read.

        Closed over unread bytes, a connection is reset, and the reset may eat the close frame.
        """
        sink = self._sink
        if self.broken or not self.scanner.at_boundary:
            sink.close()
            return
        sink.shutdown_write()
        with suppress(OSError):
            while await sink.receive():
                await trio.lowlevel.checkpoint()


class Conversation:
    """A client and an upstream that have agreed on a WebSocket.

    `error` says why it ended, None when one of them said goodbye. Neither link is closed here for good:
    they belong to the caller.
    """

    def __init__(
        self,
        client: Link,
        upstream: Link,
        *,
        extensions: frozenset[bytes],
        max_message: int,
        idle_timeout: float,
        latest: float = math.inf,
    ) -> None:
        def scanner(*, masked: bool) -> FrameScanner:
            return FrameScanner(masked=masked, max_message=max_message, extensions=extensions)

        self.up = Way(client, upstream, scanner(masked=True))
        self.down = Way(upstream, client, scanner(masked=False))
        self.error: GatewayError | None = None
        self._code: int | None = None
        self._reason = ""
        self._idle_timeout = idle_timeout
        self._latest = latest  # `timeouts.total`, on Trio's clock

    async def run(self, from_client: bytes, from_upstream: bytes) -> None:
        """Relay what came behind the handshakes and all that follows, to the parting's end.

        Cancelled, it ends at once and tells nobody.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._relay, self.up, self.down, from_client, nursery)
            nursery.start_soon(self._relay, self.down, self.up, from_upstream, nursery)
            await self._watch()
        with trio.move_on_after(LINGER):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._part, self.up, self.down)
                nursery.start_soon(self._part, self.down, self.up)

    # ---- ends

    def end(self, error: GatewayError, code: int | None = None, reason: str = "") -> None:
        """Tell both sides `code`, and end. The first reason stands, and none does behind a goodbye."""
        if self.error is None and not self.up.closed and not self.down.closed:
            self.error, self._code, self._reason = error, code, reason
            self.up.stop()
            self.down.stop()

    def drain(self) -> None:
        """The gateway stops."""
        self.end(ShuttingDown(), GOING_AWAY, "shutting down")

    def departed(self) -> None:
        """The client left. That shows by itself, behind its last bytes, unless the upstream takes none."""
        self.up.source_left()

    async def _watch(self) -> None:
        """End what is silent, or lasts too long."""
        while (due := min(self._silent(), self._latest)) > trio.current_time():  # noqa: ASYNC110
            await trio.sleep_until(due)
        if due == self._latest:
            self.end(TotalTimeout(), GOING_AWAY, "time is up")
        else:
            self.end(WebSocketIdle(), GOING_AWAY, "idle")

    def _silent(self) -> float:
        return max(self.up.heard, self.down.heard) + self._idle_timeout

    async def _relay(self, way: Way, other: Way, first: bytes, nursery: trio.Nursery) -> None:
        await way.run(first)
        way.told = way.closed
        if violation := way.scanner.violation:
            blamed = ClientViolation if way is self.up else UpstreamViolation
            self.end(blamed(cause=violation.reason), violation.code, violation.reason)
        elif isinstance(way.cause, LinkStalled):
            self.end(self._stalled(way))
        elif way.closed or (way.broken and way.cause):  # an answer, or last words, may be on their way
            other.hurry()
        else:
            self.end(self._gone(way))
        if self.error is not None:  # nobody's answer is waited for
            await self._say_goodbye(way, other)
        way.done = True
        if other.done:
            nursery.cancel_scope.cancel()

    def _stalled(self, way: Way) -> GatewayError:
        cause = str(way.cause)
        return UpstreamStalled(cause=cause) if way is self.up else ClientStalled(cause=cause)

    def _gone(self, way: Way) -> GatewayError:
        cause = str(way.cause or "closed without a close frame")
        return ClientGone(cause=cause) if way is self.up else UpstreamTruncated(cause=cause)

    async def _say_goodbye(self, way: Way, other: Way) -> None:
        """Tell the sink of `way` what it has not been told: its own code, if it spoke first."""
        is_upstream = way is self.up
        code = self._code or (GOING_AWAY if is_upstream else INTERNAL_ERROR)
        if other.scanner.close_code is not None:
            code = other.scanner.close_code
        await way.say_goodbye(code, self._reason, masked=is_upstream)

    async def _part(self, way: Way, other: Way) -> None:
        await self._say_goodbye(way, other)
        await way.part()
