"""One exchange, from its route to its access line: the same for both doors.

Every end takes the same way out: what went wrong is an error on the exchange, answered while the head
is not committed and cut visibly behind it, then counted and logged once.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog
import trio

from trio_gateway.domain.trace import context_of
from trio_gateway.errors import (
    ClientError,
    ClientGone,
    GatewayError,
    RouteNotFound,
    ShuttingDown,
    UpstreamStalled,
    UpstreamTruncated,
)
from trio_gateway.observe.logs import SparingLogger
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.exchange import Exchange, Reply
from trio_gateway.proxy.problem import own_headers, problem
from trio_gateway.proxy.relay import relay
from trio_gateway.proxy.runtime import Plan, Runtime
from trio_gateway.proxy.standing import StandingScope
from trio_gateway.proxy.streams import Streams, is_event_stream
from trio_gateway.proxy.websocket import conduct_websocket

log = structlog.get_logger("trio_gateway.proxy")
_failures = SparingLogger("trio_gateway.proxy")


async def serve(exchange: Exchange, runtime: Runtime, standing: StandingScope | None = None) -> None:
    """Serve one exchange to its end and record it.

    Answers every fault through the exchange's writer and raises no Exception. A cancellation from
    outside ends it at once, recorded, and goes on outward. It runs in a scope of its own, or in a
    `standing` one.
    """
    plan = runtime.plan
    runtime.in_flight.enter(exchange)
    try:
        endpoint = _route(exchange, plan)
        try:
            with standing or trio.CancelScope() as scope:
                exchange.scope = scope
                endpoint.begin(exchange)
                await _conduct(exchange, endpoint, runtime.streams)
        finally:
            exchange.scope = None  # what ends this exchange must not end the next one
        if scope.cancelled_caught:
            await _end(exchange, plan, exchange.error or ShuttingDown())
        else:
            exchange.error = None  # whatever wished to end it came too late
    except GatewayError as error:
        await _end(exchange, plan, error)
    except Exception as bug:  # the guard: a bug of ours costs this exchange, nothing else
        log.exception("request failed", request_id=exchange.hop.request_id.decode("latin-1"), exc_info=bug)
        runtime.metrics.handler_errors += 1
        await _end(exchange, plan, _internal_error(exchange))
    except BaseException:  # cancelled from outside; where an upload ran beside, Cancelled comes in a group
        exchange.error = exchange.error or ShuttingDown()
        exchange.writer.abort()
        raise
    finally:
        runtime.in_flight.leave(exchange)
        record(exchange, runtime)
        if exchange.error is not None:  # its frames hold the exchange: both would wait for the collector
            exchange.error.__traceback__ = exchange.error.__context__ = None


def _internal_error(exchange: Exchange) -> GatewayError:
    """The answer to a bug, with what clients of the old gateway read in it."""
    request = exchange.request
    return GatewayError(
        members={
            "error": "internal_server_error",
            "message": GatewayError.default_detail,
            "details": {
                "path": exchange.path.decode("ascii", "backslashreplace"),
                "method": request.method.decode("ascii", "backslashreplace"),
            },
            "timestamp": datetime.now(UTC).isoformat(),
        }
    )


async def _conduct(exchange: Exchange, endpoint: Endpoint, streams: Streams) -> None:
    for gate in endpoint.gates:
        reply = gate(exchange)
        if reply is not None:
            return await _deliver(exchange, endpoint, reply, streams)
    if exchange.upgrade is not None:
        refusal = await conduct_websocket(exchange, endpoint, exchange.upgrade, streams)
        return None if refusal is None else await _deliver(exchange, endpoint, refusal, streams)
    if exchange.body.whole:
        return await _deliver(exchange, endpoint, await endpoint.handler(exchange), streams)
    return await _conduct_upload(exchange, endpoint, streams)


async def _conduct_upload(exchange: Exchange, endpoint: Endpoint, streams: Streams) -> None:
    """The same with a nursery for the upload, which may go on while the reply is relayed."""
    failed: GatewayError | None = None
    async with trio.open_nursery() as nursery:
        exchange.nursery = nursery
        try:
            await _deliver(exchange, endpoint, await endpoint.handler(exchange), streams)
        except GatewayError as error:
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed


def _route(exchange: Exchange, plan: Plan) -> Endpoint:
    request = exchange.request
    match = plan.router.match(
        request.method, exchange.path, exchange.query, exchange.hop.host, request.headers
    )
    if match is None:
        shown = exchange.path[len(plan.prefix) :].lstrip(b"/").decode("ascii", "backslashreplace")
        raise RouteNotFound(f"No endpoint found for path: {shown}")
    endpoint = match.value
    exchange.endpoint_id = endpoint.id
    exchange.rest = match.rest
    exchange.hop.prefix = match.prefix
    exchange.stats = endpoint.upstream.stats
    exchange.stats.start()
    return endpoint


async def _deliver(exchange: Exchange, endpoint: Endpoint, reply: Reply, streams: Streams) -> None:
    try:
        endpoint.present(exchange, reply)
        if reply.length is None and is_event_stream(reply):
            with streams.place():
                await relay(exchange, reply, endpoint.idle_timeout)
            return
    except BaseException:
        reply.body.close()
        raise
    await relay(exchange, reply, endpoint.idle_timeout)


async def _end(exchange: Exchange, plan: Plan, error: GatewayError) -> None:
    """Answer `error` while that is possible, else cut the reply so that the client can tell."""
    exchange.error = error
    endpoint = plan.endpoints.get(exchange.endpoint_id)
    if endpoint is not None and isinstance(error, UpstreamTruncated | UpstreamStalled):
        endpoint.late_failure(exchange, error)  # the head was fine, and settled so, whether it left or not
    if exchange.committed:
        exchange.writer.abort()
        return
    if isinstance(error, ClientGone):  # nobody is there to read an answer
        exchange.status = error.status
        exchange.writer.abort()
        return
    reply = problem(error, exchange.hop.request_id)
    exchange.status = reply.status
    if endpoint is not None:
        endpoint.present(exchange, reply)
    else:
        reply.headers += own_headers(plan.request_id_header, exchange.hop.request_id)
    try:
        await relay(exchange, reply, idle_timeout=0.0)
    except ClientError as gone:
        exchange.error = gone if error.source == "client" else error
        exchange.writer.abort()


def record(exchange: Exchange, runtime: Runtime) -> None:
    """Count and log the exchange once."""
    error = exchange.error
    reason, cause = ("completed", None) if error is None else (error.code, error.cause)
    request, body, writer = exchange.request, exchange.body, exchange.writer
    exchange.ended = trio.current_time()
    duration = exchange.ended - exchange.started
    stats = exchange.stats
    if stats is None:  # no route
        stats = runtime.metrics.endpoint("")
        stats.start()
    stats.finish(request.method, exchange.status, reason, duration, body.received, writer.sent)
    if runtime.access_log is not None:
        runtime.access_log.log(
            (
                time.time(),
                exchange.hop.request_id,
                exchange.client,
                request.method,
                request.target,
                request.version,
                exchange.endpoint_id,
                exchange.target,
                exchange.status,
                body.received,
                writer.sent,
                duration,
                exchange.attempts,
                reason,
                exchange.door,
                exchange.hop.traceparent or context_of(request.headers),
                cause,
            )
        )
    elif error is not None and error.source == "upstream":  # the access line would have told
        _failures.warning(
            "upstream failed",
            exchange.ended,
            endpoint=exchange.endpoint_id,
            upstream=exchange.target,
            reason=reason,
            cause=cause,
            request_id=exchange.hop.request_id,
        )


def record_refusal(runtime: Runtime, error: GatewayError, request_id: bytes, client: str, door: str) -> None:
    """Count and log what came in place of a request: nothing of its head can be trusted."""
    runtime.metrics.head_refused(error.code)
    log_refusal(runtime, error, request_id, client, door)


def log_refusal(runtime: Runtime, error: GatewayError, request_id: bytes, client: str, door: str) -> None:
    """Log what came in place of a request, or on a connection too many."""
    if runtime.access_log is not None:
        runtime.access_log.log(
            (
                time.time(),
                request_id,
                client,
                None,
                None,
                None,
                None,
                None,
                error.status,
                0,
                0,
                0.0,
                0,
                error.code,
                door,
                b"",
                error.cause,
            )
        )


def record_answer(
    runtime: Runtime,
    *,
    started: float,
    request_id: str,
    client: str,
    request: tuple[str, bytes, str],
    reply: tuple[int, int],
    reason: str,
    cause: str | None,
    traceparent: bytes,
) -> None:
    """Log what the gateway answered by itself to a `request`: its method, target and version.

    `reply` is a status and the bytes of the body; `started` is when the request came, on Trio's clock.
    """
    if runtime.access_log is not None:
        (method, target, version), (status, sent) = request, reply
        duration = trio.current_time() - started
        runtime.access_log.log(
            (
                time.time(),
                request_id,
                client,
                method,
                target,
                version,
                None,
                None,
                status,
                0,
                sent,
                duration,
                0,
                reason,
                "quart",
                traceparent,
                cause,
            )
        )
