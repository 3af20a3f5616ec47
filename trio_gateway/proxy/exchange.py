"""One request and its reply, as both doors see it.

A door builds an `Exchange` from its request head, a body to read and a writer to answer through, and
hands it to `proxy.serve`. Whatever ends it early is an error of `errors.py`, stored before the scope
is cancelled: the answer, the log and the metrics all read it there.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import trio
from attrs import define

from trio_gateway.errors import (
    ClientGone,
    GatewayError,
    RequestTimeout,
    TotalTimeout,
    UpstreamStalled,
    UpstreamTimeout,
)
from trio_gateway.wire.request import RawHeaders, RequestHead

if TYPE_CHECKING:
    from trio_gateway.domain.breaker import Permit
    from trio_gateway.domain.fields import Hop
    from trio_gateway.observe.metrics import EndpointStats
    from trio_gateway.proxy.conversation import Conversation
    from trio_gateway.proxy.inflight import InFlight
    from trio_gateway.proxy.link import Link
    from trio_gateway.wire.handshake import Offer

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))  # RFC 9110 9.2.2


class RequestBody(Protocol):
    """A request's body, read by one task.

    `whole` says once and for all that the body stood in `buffered` when the exchange began: only then
    may it be sent twice. `complete` turns true when its last byte has come in. `length` is its
    Content-Length, None when only its end will tell; `received` counts bytes of payload.
    """

    whole: bool
    buffered: bytes
    complete: bool
    length: int | None
    received: int
    limit: int | None  # more bytes raise PayloadTooLarge
    trailers: RawHeaders

    async def read(self) -> bytes:
        """The next piece; b"" at the end. Raises ClientError. Cancelling loses no byte."""
        ...


class ReplyWriter(Protocol):
    """Where a door takes a reply. Every method raises `ClientGone` or `ClientStalled`.

    `committed` turns true with the first byte of the head that leaves: from then on the status stands.
    """

    committed: bool
    sent: int  # bytes of payload

    def start(self, reply: Reply) -> None:
        """Take the head; it leaves with the first bytes of the body, or at `flush`."""
        ...

    async def flush(self) -> None:
        """Send the head if it waits."""
        ...

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        ...

    async def finish(self, data: bytes, trailers: RawHeaders) -> None:
        """Send the last piece (which may be empty) and end the message."""
        ...

    async def interim(self, status: int, headers: RawHeaders) -> None:
        """Send an interim reply (1xx) where the client can take one."""
        ...

    def abort(self) -> None:
        """Cut the message so that the client can tell."""
        ...


class ReplyBody(Protocol):
    """A reply's body. It owns the upstream connection behind it until it is done or closed."""

    done: bool
    trailers: RawHeaders

    def take(self) -> bytes | None:
        """What is here now; None when reading has to wait. Check `done` after each call."""
        ...

    async def read(self) -> bytes:
        """The next bytes; b"" only when done. Raises UpstreamTruncated."""
        ...

    def close(self) -> None:
        """Give up what is left. Safe to repeat."""
        ...


class Body:
    """A reply body of our own: bytes that are here already."""

    __slots__ = ("_data", "done", "trailers")

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self.done = not data
        self.trailers: RawHeaders = []

    def take(self) -> bytes | None:
        """See ReplyBody."""
        self.done = True
        return self._data

    async def read(self) -> bytes:
        """See ReplyBody."""
        await trio.lowlevel.checkpoint()
        return self.take() or b""

    def close(self) -> None:
        """See ReplyBody."""


@define(slots=True, eq=False)
class Reply:
    """A reply's head and its body. `length` is the body's Content-Length where it is known.

    For HEAD and 304 `length` is what the field says, though no body follows.
    """

    status: int
    headers: RawHeaders
    body: ReplyBody
    length: int | None = None
    reason: bytes = b""
    proxied: bool = True  # the upstream's (or a copy of it), not one of our own making


Handler = Callable[["Exchange"], Awaitable[Reply]]


class Wait(Enum):
    """What the exchange's one deadline stands for at the moment."""

    UPSTREAM_HEAD = UpstreamTimeout
    CLIENT_BODY = RequestTimeout
    UPSTREAM_BODY = UpstreamStalled
    TOTAL = TotalTimeout


@define(slots=True, eq=False)
class Upgrade:
    """A client's connection, what came behind its WebSocket handshake, and what that offers."""

    link: Link
    received: bytes
    offer: Offer | None = None  # None until the gates let it through


@define(slots=True, eq=False)
class Exchange:
    """One request from its head to the last byte of its reply.

    `scope` is its one cancel scope, cancelled at `deadline` by the `table` of all that are in flight. `error`
    says why it ended early, None while all is well. Times are Trio's clock, in seconds; `ended` is set behind
    the last byte.
    """

    request: RequestHead
    body: RequestBody
    writer: ReplyWriter
    hop: Hop
    client: str
    started: float
    door: str
    scope: trio.CancelScope | None = None  # while it is routed and not yet at its end
    table: InFlight | None = None
    deadline: float = math.inf
    waiting: Wait = Wait.UPSTREAM_HEAD
    still: bool = False  # see stand_still
    latest: float = math.inf  # `timeouts.total`
    head_timeout: float = math.inf
    body_idle_timeout: float = math.inf
    error: GatewayError | None = None
    ended: float = 0.0
    path: bytes = b""
    query: bytes | None = None
    rest: bytes = b""  # the raw path behind the matched route
    endpoint_id: str = ""
    target: str = ""
    attempts: int = 0
    status: int = 0
    permit: Permit | None = None
    stats: EndpointStats | None = None
    nursery: trio.Nursery | None = None  # open while the upload streams
    uploading: bool = False
    upgrade: Upgrade | None = None
    conversation: Conversation | None = None  # behind a 101

    @property
    def committed(self) -> bool:
        """The head of the final reply has left: the status can't change any more."""
        return self.writer.committed

    @property
    def has_body(self) -> bool:
        """The request brought a body or may bring one yet."""
        return self.request.has_body or self.body.received > 0

    def wait_for(self, what: Wait, seconds: float) -> None:
        """Move the one deadline: from now on the exchange waits for `what`, this long.

        A deadline that has passed stands: its cancellation is on its way and must find its reason.
        """
        now = trio.current_time()
        if self.error is not None or now >= self.deadline:
            return
        deadline = now + seconds
        if deadline >= self.latest:
            deadline = self.latest
            if what is not Wait.UPSTREAM_HEAD:  # 504 either way, but that one is the upstream's
                what = Wait.TOTAL
        self.waiting, self.still = what, False
        self.end_at(deadline)

    def end_at(self, deadline: float) -> None:
        """Move the deadline alone."""
        self.deadline = deadline
        table = self.table
        if table is not None and deadline < table.due:
            table.hasten(deadline)

    def stand_still(self) -> None:
        """Nobody but the client keeps us waiting now; its own timers rule."""
        self.wait_for(Wait.TOTAL, math.inf)
        self.still = True

    def cancel(self, error: GatewayError) -> None:
        """End the exchange for `error`; the first reason stands."""
        if self.error is None:
            self.error = error
        if self.scope is not None:
            self.scope.cancel()

    def departed(self) -> None:
        """The client left."""
        if self.conversation is None:
            self.cancel(ClientGone())
        else:
            self.conversation.departed()

    def expire(self) -> None:
        """Its deadline has passed."""
        self.deadline = math.inf
        self.cancel(self.waiting.value())


def may_replay(exchange: Exchange, *, untouched: bool) -> bool:
    """Whether the request may be sent again: the one rule for stale connections and every policy.

    The head is not committed, the body is whole in our buffer or there is none, and the method is
    idempotent or, `untouched`, no request byte was written (RFC 9110 9.2.2).
    """
    return (
        not exchange.committed
        and exchange.body.whole
        and (untouched or exchange.request.method in IDEMPOTENT)
    )
