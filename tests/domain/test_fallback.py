"""Fallbacks: each strategy's answer, and that there always is one."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from math import inf
from typing import Any

import pytest

from trio_gateway.config.model import CircuitBreakerConfig, FallbackCacheConfig
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.fallback import FallbackReply, RefusedRequest, fall_back
from trio_gateway.errors import CircuitOpen

MARK = (b"X-Circuit-Breaker", b"fallback")
WALL_TIME = datetime(2024, 2, 29, 12, 30, tzinfo=UTC).timestamp()


def answer(
    method: bytes = b"GET",
    rest: bytes = b"/42",
    query: bytes | None = b"a=1",
    *,
    cache: FallbackCache | None = None,
    retry_after: float = 12.2,
    **config: Any,
) -> FallbackReply:
    request = RefusedRequest("users", method, b"/orchestrator/users/42?a=1", rest, query, [(b"Host", b"g")])
    return fall_back(
        CircuitBreakerConfig(**config),
        cache,
        request,
        retry_after=retry_after,
        now=100.0,
        wall_time=WALL_TIME,
    )


def refusal(**arguments: Any) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught:
        answer(**arguments)
    return caught.value


# ---- error_response ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(12.2, b"13"), (0.0, b"1"), (0.3, b"1"), (60.0, b"60"), (inf, b"45")]
)
def test_an_error_says_when_to_try_again(retry_after: float, expected: bytes) -> None:
    """503 with Retry-After in whole seconds; `reset_timeout` while an operator holds it open."""
    error = refusal(retry_after=retry_after, reset_timeout=45.0)
    assert (error.status, error.detail) == (503, "Circuit breaker is open")
    assert error.headers == ((b"Retry-After", expected), MARK)


@pytest.mark.parametrize("strategy", ["cached_response", "redirect"])
def test_a_strategy_that_can_do_nothing_is_an_error(strategy: str) -> None:
    """No cache, nothing kept, no url: error_response."""
    assert refusal(fallback_strategy=strategy).status == 503
    assert refusal(fallback_strategy=strategy, cache=FallbackCache(FallbackCacheConfig())).status == 503


# ---- default_response --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status"), [(b"GET", 218), (b"HEAD", 218), (b"POST", 503), (b"DELETE", 503), (b"OPTIONS", 503)]
)
def test_only_reads_get_the_fallback_status(method: bytes, status: int) -> None:
    """A write that did not happen is never told to have succeeded."""
    reply = answer(method, fallback_strategy="default_response", fallback_status=218)
    assert reply.status == status
    assert ((b"Retry-After", b"13") in reply.headers) is (status == 503)


def test_the_configured_response_is_sent_as_json() -> None:
    """`fallback_response` as it stands in the file, dates of YAML included."""
    content = {"users": [], "note": "später", "since": date(2024, 1, 2)}
    reply = answer(fallback_strategy="default_response", fallback_response=content)
    assert json.loads(reply.body) == {"users": [], "note": "später", "since": "2024-01-02"}
    assert reply.headers == [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        MARK,
    ]


def test_an_empty_response_is_a_response() -> None:
    """`fallback_response: {}` is sent, not replaced."""
    assert answer(fallback_strategy="default_response", fallback_response={}).body == b"{}"


def test_the_built_in_response_names_the_endpoint_and_the_time() -> None:
    """Without `fallback_response`: a message, the endpoint, and the time with its offset."""
    content = json.loads(answer(fallback_strategy="default_response").body)
    assert set(content) == {"message", "endpoint_id", "timestamp"}
    assert (content["endpoint_id"], content["timestamp"]) == ("users", "2024-02-29T12:30:00+00:00")


# ---- redirect ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "rest", "query", "location"),
    [
        ("https://b.example", b"", None, b"https://b.example"),
        ("https://b.example", b"/42", None, b"https://b.example/42"),
        ("https://b.example/", b"/42", b"x=1", b"https://b.example/42?x=1"),
        ("https://b.example:8443/v2", b"/a%2Fb", b"x=%20", b"https://b.example:8443/v2/a%2Fb?x=%20"),
        ("https://b.example/v2?k=1", b"/42", b"x=2", b"https://b.example/v2/42?k=1&x=2"),
        ("https://b.example", b"@evil.example", None, b"https://b.example/@evil.example"),
        ("https://b.example", b".evil.example", None, b"https://b.example/.evil.example"),
        ("https://b.example", b"//evil.example/x", None, b"https://b.example/evil.example/x"),
        (
            "https://b.example",
            b"/a\r\nSet-Cookie: x",
            b"\xff",
            b"https://b.example/a%0D%0ASet-Cookie:%20x?%FF",
        ),
    ],
)
def test_a_redirect_keeps_path_and_query(url: str, rest: bytes, query: bytes | None, location: bytes) -> None:
    """307 to the url with the rest and the query joined; the host is always the config's."""
    reply = answer(b"POST", rest, query, fallback_strategy="redirect", redirect_url=url)
    assert (reply.status, reply.headers, reply.body) == (307, [(b"Location", location), MARK], b"")


# ---- cached_response ---------------------------------------------------------------------------------


def test_the_last_good_reply_is_sent() -> None:
    """The kept reply to the same GET, with its age and both marks."""
    cache = FallbackCache(FallbackCacheConfig())
    cache.store(b"/orchestrator/users/42?a=1", [(b"Host", b"g")], [(b"Content-Type", b"x/y")], b"kept", 90.0)
    reply = answer(fallback_strategy="cached_response", cache=cache)
    assert (reply.status, reply.body) == (200, b"kept")
    assert {(b"Content-Type", b"x/y"), (b"Age", b"10"), MARK} < set(reply.headers)
    assert refusal(method=b"HEAD", fallback_strategy="cached_response", cache=cache).status == 503
