"""Policies around the one attempt. A layer takes a handler and returns one; an endpoint that does not
configure a policy has no layer for it.

Whatever happens inside, a layer gives back what it took: the `finally` here is the only place where a
breaker's permit is settled.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from trio_gateway.config.model import CircuitBreakerConfig
from trio_gateway.domain.breaker import CircuitBreaker
from trio_gateway.domain.cache import FallbackCache, Recording
from trio_gateway.domain.fallback import RefusedRequest, fall_back
from trio_gateway.domain.outcome import FailureRule, Outcome, judge_kind, judge_status
from trio_gateway.errors import GatewayError
from trio_gateway.proxy.exchange import Body, Exchange, Handler, Reply, ReplyBody
from trio_gateway.wire.request import RawHeaders

Fallback = Callable[[Exchange], Reply]


def guarded(
    handler: Handler, breaker: CircuitBreaker, failure_on: FailureRule, fallback: Fallback
) -> Handler:
    """Ask the circuit breaker first; `fallback` answers (or raises) when it refuses.

    The permit is settled at the reply's head. Cancellation and the client's own errors settle
    ABANDONED, but for the upstream's deadline.
    """

    async def guard(exchange: Exchange) -> Reply:
        permit = breaker.admit(exchange.started)
        if permit is None:
            return fallback(exchange)
        exchange.permit = permit
        outcome = Outcome.ABANDONED
        try:
            reply = await handler(exchange)
            outcome = judge_status(reply.status, failure_on)
            return reply
        except GatewayError as error:
            outcome = _judge(error, failure_on)
            raise
        except trio.Cancelled:
            outcome = _judge(exchange.error, failure_on)
            raise
        finally:
            now = trio.current_time()
            permit.settle(outcome, now, now - exchange.started)

    return guard


def _judge(error: GatewayError | None, failure_on: FailureRule) -> Outcome:
    if error is None or error.failure_kind is None:
        return Outcome.ABANDONED
    return judge_kind(error.failure_kind, failure_on)


def fallback_of(
    endpoint_id: str, config: CircuitBreakerConfig, breaker: CircuitBreaker, cache: FallbackCache
) -> Fallback:
    """What answers while `breaker` refuses; raises CircuitOpen where there is no better answer."""

    def answer(exchange: Exchange) -> Reply:
        now = trio.current_time()
        request = exchange.request
        refused = RefusedRequest(
            endpoint_id,
            request.method,
            request.target,
            exchange.rest,
            exchange.query,
            request.headers,
            exchange.has_body,
            bool(exchange.hop.client_certificate),
        )
        kept = fall_back(
            config, cache, refused, retry_after=breaker.retry_after(now), now=now, wall_time=time.time()
        )
        copied = config.fallback_strategy == "cached_response"
        return Reply(kept.status, kept.headers, Body(kept.body), len(kept.body), proxied=copied)

    return answer


def recorded(handler: Handler, cache: FallbackCache) -> Handler:
    """Keep good replies for `cached_response`: whole ones, copied while they pass."""

    async def record(exchange: Exchange) -> Reply:
        reply = await handler(exchange)
        request = exchange.request
        cache.invalidate(request.method, request.target, request.headers, reply.status)
        wanted = cache.wants(request.method, request.headers, has_body=exchange.has_body)
        certified = bool(exchange.hop.client_certificate)
        if wanted and cache.storable(
            request.headers, reply.status, reply.headers, client_certificate=certified
        ):
            reply.body = RecordedBody(reply.body, cache, exchange, reply)
        return reply

    return record


class RecordedBody:
    """A reply body that is copied on its way and stored when it is whole."""

    __slots__ = ("_body", "_cache", "_exchange", "_headers", "_recording", "done", "trailers")

    def __init__(self, body: ReplyBody, cache: FallbackCache, exchange: Exchange, reply: Reply) -> None:
        self._body = body
        self._cache = cache
        self._exchange = exchange
        self._headers = reply.headers
        self._recording = Recording(cache.config.max_entry)
        self.done = body.done
        self.trailers: RawHeaders = []
        if self.done:
            self._store()

    def take(self) -> bytes | None:
        """See ReplyBody."""
        return self._copy(self._body.take())

    async def read(self) -> bytes:
        """See ReplyBody."""
        return self._copy(await self._body.read()) or b""

    def _copy(self, data: bytes | None) -> bytes | None:
        if data:
            self._recording.add(data)
        if self._body.done and not self.done:
            self.done = True
            self.trailers = self._body.trailers
            self._store()
        return data

    def _store(self) -> None:
        body = self._recording.body()
        if body is not None:
            request = self._exchange.request
            self._cache.store(request.target, request.headers, self._headers, body, trio.current_time())

    def close(self) -> None:
        """See ReplyBody."""
        self._body.close()
