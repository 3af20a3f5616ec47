"""The WebSocket probe: a handshake and a ping, through trio-websocket on a stream of ours.

The library waits for an answer even when the connection has ended or the peer spoke no WebSocket. Our
stream therefore raises where it would only close, and the error ends the probe at once. What the layers
below the library make of garbage comes out as their own errors, which say no more than that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio
from attrs import define, field, frozen
from h11 import ProtocolError as H11ProtocolError
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream
from wsproto.utilities import ProtocolError as WsProtocolError

from trio_gateway.background.dial import MAX_ANSWER, Answer, Dial, Enough, ProbeFailed, resource_of, target_of
from trio_gateway.domain.health import Check
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.upstream import Target

_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # a client's close frame with code 1000 (RFC 6455 5.5.1)


@frozen
class WebSocketProbe:
    """Alive is what accepts a WebSocket and answers a ping. The close is said, its answer not awaited."""

    _dial: Dial

    async def __call__(self, check: Check) -> None:
        """See `probes`."""
        target = target_of(check.url)
        link = await self._dial(check, target)
        try:
            await _converse(link, target)
            with suppress(OSError):
                link.send_nowait(_CLOSE)
        finally:
            link.close()


async def _converse(link: Link, target: Target) -> None:
    failure: ProbeFailed | OSError | None = None
    try:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery,
                _Stream(link),  # type: ignore[arg-type] # any stream will do
                target.authority.decode(),
                resource_of(target).decode(),
                message_queue_size=MAX_ANSWER,  # nobody takes messages; none may keep the pong waiting
            )
            await socket.ping()
            nursery.cancel_scope.cancel()
    except* (ConnectionClosed, WsProtocolError, H11ProtocolError):
        failure = ProbeFailed("no valid WebSocket")
    except* ConnectionRejected as rejections:
        failure = ProbeFailed(f"status {_first(rejections).status_code}")
    except* (ProbeFailed, OSError) as errors:
        failure = _first(errors)
    if failure is not None:
        raise failure


def _first(group: BaseExceptionGroup[Any]) -> Any:
    return group.exceptions[0]


@define(eq=False)
class _Stream(trio.abc.Stream):
    """A link as trio-websocket's stream: whatever ends the conversation early raises."""

    _link: Link
    _answer: Answer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._answer = Answer(self._link)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes. Raises OSError, and ProbeFailed at the end."""
        try:
            data = await self._answer.receive(max_bytes or MAX_ANSWER)
        except Enough:
            raise ProbeFailed(f"no answer to a ping within {MAX_ANSWER} bytes") from None
        if not data:
            raise ProbeFailed("the connection was closed")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises OSError."""
        await self._link.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Nobody asks."""

    async def aclose(self) -> None:
        """The library gives up: what came was no WebSocket."""
        raise ProbeFailed("no valid WebSocket")
