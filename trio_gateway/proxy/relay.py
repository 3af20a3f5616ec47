"""Bodies both ways, pushed piece by piece: what a slow reader leaves in its socket is never read here.

Head and first piece leave together when the piece is here; before the exchange waits for the upstream
the head is flushed, so an event stream opens at once.
"""

from __future__ import annotations

import trio

from trio_gateway.errors import GatewayError
from trio_gateway.proxy.exchange import Exchange, Reply, Wait
from trio_gateway.proxy.link import Link
from trio_gateway.wire.request import RawHeaders
from trio_gateway.wire.serialise import chunk, last_chunk

# Links don't yield while bytes flow without waiting: after so many pieces others get their turn.
_PIECES_BEFORE_YIELD = 4

# Fields that would change what the message means or where it goes (RFC 9110 6.5.1).
_NOT_IN_TRAILERS = frozenset(
    b"transfer-encoding content-length host connection te trailer upgrade keep-alive proxy-connection "
    b"content-encoding content-type content-range cache-control expect max-forwards pragma range "
    b"authorization proxy-authorization proxy-authenticate www-authenticate set-cookie cookie "
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix x-real-ip via "
    b"location age date expires retry-after vary warning x-request-id".split()
)


def trailers_to_pass(trailers: RawHeaders) -> RawHeaders:
    """The trailer fields that may go on: none that frames, routes or authenticates."""
    return [field for field in trailers if field[0].lower() not in _NOT_IN_TRAILERS]


async def relay(exchange: Exchange, reply: Reply, idle_timeout: float) -> None:
    """Push `reply` to the client. `idle_timeout` bounds each wait for the upstream, in seconds.

    Raises ClientGone, ClientStalled or UpstreamTruncated. The body is closed in any case.
    """
    body, writer = reply.body, exchange.writer
    exchange.status = reply.status
    pieces = 0
    try:
        writer.start(reply)
        while not body.done:
            data = body.take()
            if data is None:
                await writer.flush()
                exchange.wait_for(Wait.UPSTREAM_BODY, idle_timeout)
                data = await body.read()
            if body.done:
                await writer.finish(data, trailers_to_pass(body.trailers))
                return
            await writer.write(data)
            pieces += 1
            if pieces % _PIECES_BEFORE_YIELD == 0:
                exchange.wait_for(Wait.UPSTREAM_BODY, idle_timeout)  # nobody kept us waiting
                await trio.lowlevel.checkpoint()
        await writer.finish(b"", trailers_to_pass(body.trailers))
    finally:
        body.close()


async def upload(exchange: Exchange, link: Link, idle_timeout: float) -> None:
    """Push the request's body to the upstream while the reply is awaited; a task of its own.

    The exchange's deadline follows: the client's silence is judged by `body_idle`, the upstream's by
    `timeout`, which every piece that it takes re-arms. An upstream that stops reading ends the upload
    only: its reply decides.
    """
    chunked = exchange.body.length is None
    pieces = 0
    try:
        while data := await _next_piece(exchange, idle_timeout):
            await link.send(chunk(data) if chunked else data)
            pieces += 1
            # Behind the last piece the reply may be here at once: it must find the request complete.
            if pieces % _PIECES_BEFORE_YIELD == 0 and not exchange.body.complete:
                await trio.lowlevel.checkpoint()
        if chunked:
            await link.send(last_chunk(trailers_to_pass(exchange.body.trailers)))
        exchange.uploading = False
    except GatewayError as error:
        exchange.cancel(error)
    except OSError:
        await_upstream(exchange, idle_timeout)


async def _next_piece(exchange: Exchange, idle_timeout: float) -> bytes:
    if not exchange.committed:
        exchange.wait_for(Wait.CLIENT_BODY, exchange.body_idle_timeout)
    data = await exchange.body.read()
    await_upstream(exchange, idle_timeout)
    return data


def await_upstream(exchange: Exchange, idle_timeout: float) -> None:
    """The upstream alone keeps us waiting from now on: for the reply's head, or for more of its body.

    A reply that waits for its client goes on waiting for that.
    """
    if exchange.committed:
        if exchange.waiting is Wait.UPSTREAM_BODY:
            exchange.wait_for(Wait.UPSTREAM_BODY, idle_timeout)
    else:
        exchange.wait_for(Wait.UPSTREAM_HEAD, exchange.head_timeout)
