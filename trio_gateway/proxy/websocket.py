"""A WebSocket exchange, from its client's handshake to the parting."""

from __future__ import annotations

import math

from trio_gateway.errors import WebSocketDisabled
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.conversation import Conversation
from trio_gateway.proxy.exchange import Exchange, Reply, Upgrade
from trio_gateway.proxy.handshake import Upgraded
from trio_gateway.proxy.streams import Streams
from trio_gateway.wire.handshake import UPGRADE, Offer, read_offer


async def conduct_websocket(
    exchange: Exchange, endpoint: Endpoint, upgrade: Upgrade, streams: Streams
) -> Reply | None:
    """Conduct a WebSocket to its end, or return the reply that stands in place of one.

    Raises the GatewayError that refuses it or, behind the 101, that ended it.
    """
    upgrade.offer = offer_of(exchange, endpoint)
    with streams.place():
        assert endpoint.websocket is not None
        reply = await endpoint.websocket(exchange)
        if not isinstance(reply.body, Upgraded):
            return reply
        try:
            endpoint.present(exchange, reply)
            conversation = _conversation(exchange, endpoint, reply.body, upgrade)
            with streams.holding(conversation):
                await _converse(exchange, reply, conversation, upgrade.received, reply.body.received)
        finally:
            reply.body.close()
    if conversation.error is not None:
        raise conversation.error
    return None


def offer_of(exchange: Exchange, endpoint: Endpoint) -> Offer:
    """What the handshake offers. Raises WebSocketDisabled, or what is wrong with it."""
    if endpoint.websocket is None:
        raise WebSocketDisabled
    return read_offer(exchange.request)


def _conversation(
    exchange: Exchange, endpoint: Endpoint, upgraded: Upgraded, upgrade: Upgrade
) -> Conversation:
    config = endpoint.config.websocket
    upstream = upgraded.lease.link
    upstream.write_timeout = config.idle_timeout
    return Conversation(
        upgrade.link,
        upstream,
        extensions=upgraded.extensions,
        max_message=config.max_message_size,
        idle_timeout=config.idle_timeout,
        latest=exchange.latest,
    )


async def _converse(
    exchange: Exchange, reply: Reply, conversation: Conversation, from_client: bytes, from_upstream: bytes
) -> None:
    """Accept the client's handshake, then relay. The exchange's clock has nothing to say any more."""
    await exchange.writer.interim(101, [*reply.headers, *UPGRADE])
    exchange.status = 101
    exchange.conversation = conversation
    exchange.end_at(math.inf)
    try:
        await conversation.run(from_client, from_upstream)
    finally:
        exchange.body.received = conversation.up.moved
        exchange.writer.sent = conversation.down.moved
