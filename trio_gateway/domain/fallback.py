"""What a client gets while the circuit breaker is open.

One pure function answers by `fallback_strategy`. Whatever a strategy can't do here and now (nothing
kept, no url to redirect to) ends as `error_response`, so that an open breaker always has an answer,
and every answer says `X-Circuit-Breaker: fallback`: no client takes it for the upstream's.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from math import ceil, isfinite
from urllib.parse import urlsplit

from attrs import field, frozen

from trio_gateway.config.model import CircuitBreakerConfig
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.headers import RawHeaders
from trio_gateway.domain.target import join
from trio_gateway.errors import CircuitOpen

_MARK = (b"X-Circuit-Breaker", b"fallback")
_NOT_IN_URLS = re.compile(rb"[^!#$%&'()*+,/0-9:;=?@A-Z\[\]_a-z~.-]")  # RFC 3986 2


@frozen
class RefusedRequest:
    """What a fallback needs to know of the request; paths as the client sent them.

    `target` is the client's path and query; `rest` is what stands behind the endpoint's route.
    """

    endpoint_id: str
    method: bytes
    target: bytes
    rest: bytes
    query: bytes | None
    headers: RawHeaders = field(repr=False)
    has_body: bool = False
    client_certificate: bool = False


@frozen
class FallbackReply:
    """A complete reply; its sender frames the body, and leaves it out for HEAD."""

    status: int
    headers: RawHeaders
    body: bytes = field(repr=False)


def fall_back(
    config: CircuitBreakerConfig,
    cache: FallbackCache | None,
    request: RefusedRequest,
    *,
    retry_after: float,
    now: float,
    wall_time: float,
) -> FallbackReply:
    """The answer to a request that the breaker refused, or CircuitOpen with Retry-After.

    `retry_after` is the breaker's, in seconds; `now` is the cache's clock, `wall_time` Unix seconds.
    """
    reply: FallbackReply | None = None
    if config.fallback_strategy == "default_response":
        reply = _default(config, request, retry_after, wall_time)
    elif config.fallback_strategy == "redirect":
        reply = _redirect(config, request)
    elif config.fallback_strategy == "cached_response" and cache is not None:
        reply = _cached(cache, request, now)
    if reply is None:
        raise CircuitOpen(headers=(_retry_after(config, retry_after), _MARK), members=_old_members(wall_time))
    return reply


def _old_members(wall_time: float) -> dict[str, object]:
    """What clients of the old gateway read in this answer."""
    return {
        "error": "service_unavailable",
        "message": CircuitOpen.default_detail,
        "circuit_breaker_state": "open",
        "timestamp": datetime.fromtimestamp(wall_time, UTC).isoformat(),
    }


def _retry_after(config: CircuitBreakerConfig, seconds: float) -> tuple[bytes, bytes]:
    """Whole seconds, at least one. Nobody knows how long an operator holds it open: `reset_timeout` then."""
    wait = seconds if isfinite(seconds) else config.reset_timeout
    return (b"Retry-After", b"%d" % max(1, ceil(wait)))


def _default(
    config: CircuitBreakerConfig, request: RefusedRequest, retry_after: float, wall_time: float
) -> FallbackReply:
    """`fallback_response` as JSON. For what may have changed something a success would be a lie: 503."""
    content = config.fallback_response
    if content is None:
        content = {
            "message": "The service is temporarily unavailable",
            "endpoint_id": request.endpoint_id,
            "timestamp": datetime.fromtimestamp(wall_time, UTC).isoformat(),
        }
    headers = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), _MARK]
    status = config.fallback_status if request.method in (b"GET", b"HEAD") else 503
    if status == 503:
        headers.append(_retry_after(config, retry_after))
    return FallbackReply(status, headers, json.dumps(content, default=str).encode("ascii"))


def _redirect(config: CircuitBreakerConfig, request: RefusedRequest) -> FallbackReply | None:
    """307 keeps method and body (RFC 9110 15.4.8); the request can add to the path, never to the host."""
    if config.redirect_url is None:
        return None
    url = urlsplit(config.redirect_url)
    rest = b"/" + request.rest.lstrip(b"/") if request.rest else b""
    target = join(url.path.encode(), url.query.encode() or None, rest, request.query)
    location = f"{url.scheme}://{url.netloc}".encode() + target
    return FallbackReply(307, [(b"Location", _NOT_IN_URLS.sub(_escaped, location)), _MARK], b"")


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def _cached(cache: FallbackCache, request: RefusedRequest, now: float) -> FallbackReply | None:
    if request.method != b"GET" or request.has_body:
        return None
    kept = cache.lookup(request.target, request.headers, now, client_certificate=request.client_certificate)
    return None if kept is None else FallbackReply(kept.status, [*kept.headers, _MARK], kept.body)
