"""The one attempt at a WebSocket: a new connection to the target, and its answer held against the offer."""

from __future__ import annotations

from attrs import frozen

from trio_gateway.errors import UpstreamReset
from trio_gateway.proxy.exchange import Body, Exchange, Reply
from trio_gateway.proxy.forward import Attempt, read_head, reply_of
from trio_gateway.proxy.pool import Lease
from trio_gateway.wire.handshake import UPGRADE, accepted
from trio_gateway.wire.serialise import request_head


class Upgraded(Body):
    """What stands behind a 101: the upstream's connection, what came there, the extensions agreed on."""

    __slots__ = ("extensions", "lease", "received")

    def __init__(self, lease: Lease, received: bytes, extensions: frozenset[bytes]) -> None:
        super().__init__()
        self.lease = lease
        self.received = received
        self.extensions = extensions

    def close(self) -> None:
        """See ReplyBody."""
        self.lease.discard()


@frozen(eq=False)
class Handshake(Attempt):
    """The innermost handler of an endpoint for WebSockets."""

    @classmethod
    def of(cls, attempt: Attempt) -> Handshake:
        """The same target by the same rules."""
        return cls(attempt.pool, attempt.name, attempt.request_headers, attempt.join, attempt.idle_timeout)

    async def __call__(self, exchange: Exchange) -> Reply:
        """See Handler. A reply other than 101 is the upstream's refusal; with a 101 comes an Upgraded.

        Raises UpstreamError, or ClientError for what must not be forwarded.
        """
        assert exchange.upgrade is not None
        offer = exchange.upgrade.offer
        assert offer is not None
        headers = self.request_headers(exchange.request.headers, exchange.hop)
        message = request_head(b"GET", self.join(exchange.rest, exchange.query), [*headers, *UPGRADE])
        exchange.target = self.name
        lease = await self.pool.open()
        exchange.attempts += 1
        try:
            try:
                await lease.link.send(message)
            except OSError as error:
                raise UpstreamReset(cause=str(error)) from None
            head, rest = await read_head(exchange, lease.link)
            if head.status != 101:
                return reply_of(exchange, lease, head, rest)
            return Reply(101, head.headers, Upgraded(lease, rest, accepted(head, offer)))
        except BaseException:
            lease.discard()
            raise
