"""From an endpoint's config to what serves it: the only place that knows the order of things.

Gates are synchronous and stand in a tuple; layers wrap the attempt; what is not configured is not
there. Order: allow/deny, in service, CORS preflight, method, body limit, then the layers, the breaker
first among them, so that a refused request never takes a half-open place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from attrs import frozen

from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.domain.access import compile_access
from trio_gateway.domain.cors import Cors, compile_cors
from trio_gateway.domain.headers import Hop, compile_request, compile_response
from trio_gateway.domain.location import compile_location
from trio_gateway.domain.outcome import FailureRule
from trio_gateway.domain.routes import routes_of
from trio_gateway.domain.target import join, replace_last
from trio_gateway.domain.trie import Kind
from trio_gateway.errors import (
    EndpointDisabled,
    EndpointUnhealthy,
    Forbidden,
    GatewayError,
    MethodNotAllowed,
    PayloadTooLarge,
)
from trio_gateway.proxy.exchange import Body, Exchange, Handler, Reply
from trio_gateway.proxy.forward import Attempt
from trio_gateway.proxy.handshake import Handshake
from trio_gateway.proxy.layers import fallback_of, guarded, recorded
from trio_gateway.proxy.problem import http_date, own_headers
from trio_gateway.proxy.upstream import Target, Upstream
from trio_gateway.wire.request import RawHeaders

Gate = Callable[[Exchange], Reply | None]


@frozen(eq=False)
class Endpoint:
    """One endpoint, ready to serve. It is part of a Plan: frozen, and thrown away with it."""

    id: str
    config: EndpointConfig
    routes: tuple[tuple[bytes, Kind], ...]
    upstream: Upstream
    gates: tuple[Gate, ...]
    handler: Handler
    websocket: Handler | None  # the same for WebSockets, where they are enabled
    response_headers: Callable[[RawHeaders, Hop, float], RawHeaders]
    cors: Cors | None
    request_id_header: bytes
    failure_on: FailureRule
    head_timeout: float
    idle_timeout: float
    total_timeout: float | None
    body_idle_timeout: float
    max_body: int | None

    def begin(self, exchange: Exchange) -> None:
        """Set the exchange's limits and its clock, which starts with the request."""
        exchange.head_timeout = self.head_timeout
        exchange.body_idle_timeout = self.body_idle_timeout
        exchange.body.limit = self.max_body
        deadline = exchange.started + self.head_timeout
        if self.total_timeout is not None:
            exchange.latest = exchange.started + self.total_timeout
            deadline = min(deadline, exchange.latest)
        exchange.end_at(deadline)

    def present(self, exchange: Exchange, reply: Reply) -> None:
        """Give a reply the fields that its client must see, whoever made it."""
        seconds = trio.current_time() - exchange.started
        if reply.proxied:
            reply.headers = self.response_headers(reply.headers, exchange.hop, seconds)
        else:
            reply.headers += own_headers(self.request_id_header, exchange.hop.request_id, self.id, seconds)
        if self.cors is not None:
            reply.headers = self.cors.decorate(exchange.request.headers, reply.headers)

    def late_failure(self, exchange: Exchange, error: GatewayError) -> None:
        """A reply that broke off behind its head is one more failure."""
        kind = error.failure_kind
        if exchange.permit is not None and kind is not None and self.failure_on.counts_kind(kind):
            exchange.permit.late_failure(trio.current_time())


def inherited(gateway: GatewayConfig) -> object:
    """What an endpoint takes from the rest of the config: where it is equal, the endpoint stays as it is."""
    server = gateway.server
    client_certificates = server.tls.client_ca is not None
    return server.limits.body, server.timeouts.body_idle, client_certificates, gateway.tracing


def compile_endpoint(config: EndpointConfig, upstream: Upstream, gateway: GatewayConfig) -> Endpoint:
    """Compile one endpoint over its live upstream."""
    server, request_id_header = gateway.server, gateway.tracing.request_id_header.encode()
    cors = compile_cors(config.cors, config.methods) if config.cors.origins else None
    max_body = _smaller(config.max_body_bytes, server.limits.body)
    target = upstream.target
    location = None
    if config.headers.location == "rewrite":
        preserve = config.headers.host == "preserve"
        location = compile_location(target.authority, target.path, tls=target.tls, preserve_host=preserve)
    attempt = _attempt(config, upstream, gateway)
    return Endpoint(
        id=config.id,
        config=config,
        routes=tuple(routes_of(config)),
        upstream=upstream,
        gates=_gates(config, upstream, cors, max_body),
        handler=_handler(config, upstream, attempt),
        websocket=_websocket(config, upstream, attempt) if config.websocket.enabled else None,
        response_headers=compile_response(
            config.headers,
            endpoint_id=config.id.encode(),
            request_id_header=request_id_header,
            location=location,
            date=http_date,
        ),
        cors=cors,
        request_id_header=request_id_header,
        failure_on=FailureRule.of(config.circuit_breaker.failure_on),
        head_timeout=config.timeout,
        idle_timeout=config.timeouts.idle,
        total_timeout=config.timeouts.total,
        body_idle_timeout=server.timeouts.body_idle,
        max_body=max_body,
    )


def _smaller(one: int | None, other: int | None) -> int | None:
    limit = min(math.inf if one is None else one, math.inf if other is None else other)
    return None if limit == math.inf else int(limit)


# ---- layers ---------------------------------------------------------------------------------------


def _attempt(config: EndpointConfig, upstream: Upstream, gateway: GatewayConfig) -> Attempt:
    target = upstream.target
    return Attempt(
        pool=upstream.pool,
        name=f"{target.host}:{target.port}",
        request_headers=compile_request(
            config.headers,
            authority=target.authority,
            request_id_header=gateway.tracing.request_id_header.encode(),
            tls=target.tls,
            traces=gateway.tracing.traceparent,
            client_certificates=gateway.server.tls.client_ca is not None,
        ),
        join=_joiner(config, target),
        idle_timeout=config.timeouts.idle,
    )


def _handler(config: EndpointConfig, upstream: Upstream, attempt: Attempt) -> Handler:
    handler: Handler = attempt
    if config.circuit_breaker.fallback_strategy == "cached_response":
        handler = recorded(handler, upstream.cache)
    return _guarded(config, upstream, handler)


def _websocket(config: EndpointConfig, upstream: Upstream, attempt: Attempt) -> Handler:
    return _guarded(config, upstream, Handshake.of(attempt))


def _guarded(config: EndpointConfig, upstream: Upstream, handler: Handler) -> Handler:
    breaker = config.circuit_breaker
    fallback = fallback_of(config.id, breaker, upstream.breaker, upstream.cache)
    return guarded(handler, upstream.breaker, FailureRule.of(breaker.failure_on), fallback)


def _joiner(config: EndpointConfig, target: Target) -> Callable[[bytes, bytes | None], bytes]:
    how = replace_last if config.path.mode == "replace_last" else join
    path, base_query = target.path, target.query

    def joined(rest: bytes, query: bytes | None) -> bytes:
        return how(path, base_query, rest, query)

    return joined


# ---- gates ----------------------------------------------------------------------------------------


def _gates(
    config: EndpointConfig, upstream: Upstream, cors: Cors | None, max_body: int | None
) -> tuple[Gate, ...]:
    gates: list[Gate] = []
    if config.allow or config.deny:
        gates.append(_address_gate(config))
    gates.append(_service_gate(upstream))
    if cors is not None:
        gates.append(_preflight_gate(cors))
    gates.append(_method_gate(config))
    if max_body is not None:
        gates.append(_body_gate(max_body))
    return tuple(gates)


def _address_gate(config: EndpointConfig) -> Gate:
    allowed = compile_access(config.allow, config.deny)

    def gate(exchange: Exchange) -> None:
        if not allowed(exchange.client):
            raise Forbidden

    return gate


def _service_gate(upstream: Upstream) -> Gate:
    entry = upstream.entry

    def gate(exchange: Exchange) -> None:  # noqa: ARG001  a gate takes the exchange
        status = entry.status
        if status != "active" and status != "inactive":
            raise EndpointDisabled if status == "disabled" else EndpointUnhealthy

    return gate


def _preflight_gate(cors: Cors) -> Gate:
    def gate(exchange: Exchange) -> Reply | None:
        headers = cors.preflight(exchange.request.method, exchange.request.headers)
        return None if headers is None else Reply(204, headers, Body(), proxied=False)

    return gate


def _method_gate(config: EndpointConfig) -> Gate:
    methods = set(config.methods) | ({"HEAD"} if "GET" in config.methods else set())
    allowed = frozenset(method.encode() for method in methods)
    allow = ((b"Allow", ", ".join(sorted(methods)).encode()),)
    listed = [str(method) for method in config.methods]

    def gate(exchange: Exchange) -> None:
        method = exchange.request.method
        if method not in allowed:
            shown = method.decode("ascii", "backslashreplace")
            raise MethodNotAllowed(f"Method {shown} not allowed. Allowed: {listed}", headers=allow)

    return gate


def _body_gate(max_body: int) -> Gate:
    def gate(exchange: Exchange) -> None:
        if (exchange.body.length or 0) > max_body or exchange.body.received > max_body:
            raise PayloadTooLarge

    return gate
