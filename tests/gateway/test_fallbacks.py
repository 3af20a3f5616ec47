"""What clients get while the circuit breaker is open."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.support.client import Answer
from tests.support.doors import Cut, H2Caller
from tests.support.moody import Moody
from tests.support.stage import USERS, Door, Stage


def config(strategy: str, **more: Any) -> dict[str, Any]:
    return {"circuit_breaker": {"fallback_strategy": strategy, **more}}


def trip(stage: Stage) -> None:
    stage.target().breaker.trip(trio.current_time())


def check(answer: Answer) -> None:
    """What every fallback says."""
    assert answer.value("x-circuit-breaker") == "fallback"
    assert answer.value("x-endpoint-id") == "users"
    assert len(answer.values("x-request-id")) == len(answer.values("date")) == 1


async def test_error_response(door: Door) -> None:
    """503 with Retry-After, and what old clients read."""
    async with door.stage(endpoint=config("error_response", reset_timeout=7)) as stage:
        trip(stage)
        answer = await stage.get()
        check(answer)
        assert (answer.status, answer.value("retry-after")) == (503, "7")
        assert json.loads(answer.body)["circuit_breaker_state"] == "open"


@pytest.mark.parametrize(("method", "status"), [("GET", 203), ("HEAD", 203), ("POST", 503), ("DELETE", 503)])
async def test_default_response(door: Door, method: str, status: int) -> None:
    """The configured document; a success only where nothing was to be changed."""
    told = {"sorry": ["later", 1, None]}
    endpoint = config("default_response", fallback_response=told, fallback_status=203)
    async with door.stage(endpoint=endpoint) as stage:
        trip(stage)
        answer = await stage.fetch(method, USERS)
        check(answer)
        assert (answer.status, answer.value("content-type")) == (status, "application/json")
        assert answer.body == b"" if method == "HEAD" else json.loads(answer.body) == told
        assert bool(answer.values("retry-after")) == (status == 503)


async def test_default_response_without_a_document(door: Door) -> None:
    """Message, endpoint and time, as the old gateway said."""
    async with door.stage(endpoint=config("default_response")) as stage:
        trip(stage)
        assert json.loads((await stage.get()).body).keys() == {"message", "endpoint_id", "timestamp"}


@pytest.mark.parametrize(
    ("url", "rest", "location"),
    [
        ("https://b.example", "/x?y=1", "https://b.example/x?y=1"),
        ("https://b.example/base?k=v", "/x/%2Fz?y", "https://b.example/base/x/%2Fz?k=v&y"),
        ("https://b.example", "//evil.example/x", "https://b.example/evil.example/x"),
        ("https://b.example", "", "https://b.example/"),
    ],
)
async def test_redirect(door: Door, url: str, rest: str, location: str) -> None:
    """307 with path and query; a request can never choose the host."""
    async with door.stage(endpoint=config("redirect", redirect_url=url)) as stage:
        trip(stage)
        answer = await stage.fetch("PUT", USERS + rest, body=b"data")
        check(answer)
        assert (answer.status, answer.value("location"), answer.body) == (307, location, b"")


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Mine: 1\r\n%b\r\ngood"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Mine: 1\r\n\r\n4\r\ngood\r\n0\r\n\r\n"


@pytest.mark.parametrize("reply", [GOOD % b"", CHUNKED])
async def test_cached_response(door: Door, reply: bytes) -> None:
    """The last good reply to the same GET, marked with its age; whatever framing it came in."""
    async with door.stage(Moody(reply), config("cached_response")) as stage:
        assert (await stage.get("/a?b")).body == b"good"
        await trio.sleep(20)
        trip(stage)
        answer = await stage.get("/a?b")
        check(answer)
        assert (answer.status, answer.body, answer.value("content-length")) == (200, b"good", "4")
        assert (answer.value("x-mine"), answer.value("age")) == ("1", "20")
        assert answer.value("cache-status").startswith("trio-gateway; hit")
        for method, rest in (("GET", "/a"), ("GET", "/a?c"), ("POST", "/a?b")):
            assert (await stage.fetch(method, USERS + rest)).status == 503
        await trio.sleep(281)
        assert (await stage.get("/a?b")).status == 503


@pytest.mark.parametrize(
    ("field", "sent", "kept"),
    [
        (b"Cache-Control: no-store\r\n", (), False),
        (b"Cache-Control: private\r\n", (), False),
        (b"Cache-Control: max-age=1\r\n", (), True),
        (b"Set-Cookie: a=b\r\n", (), False),
        (b"Vary: *\r\n", (), False),
        (b"", ("Authorization: x",), False),
        (b"", ("Cookie: x",), False),
        (b"", ("X-API-Key: x",), False),
        (b"Vary: Accept, X-Forwarded-For\r\n", (), False),
        (b"Vary: Via\r\n", (), False),
        (b"Cache-Control: public\r\n", ("Authorization: x",), True),
    ],
)
async def test_nobody_gets_what_was_another_s(
    door: Door, field: bytes, sent: tuple[str, ...], kept: bool
) -> None:
    """A reply that was made for one client, or forbids it, is not kept."""
    async with door.stage(Moody(GOOD % field), config("cached_response")) as stage:
        assert (await stage.get("", *sent)).status == 200
        trip(stage)
        assert (await stage.get("", *sent)).status == (200 if kept else 503)


async def test_replies_are_kept_apart_by_what_they_vary_on(door: Door) -> None:
    """Another language gets its own copy, or none."""
    async with door.stage(Moody(GOOD % b"Vary: Accept-Language\r\n"), config("cached_response")) as stage:
        await stage.get("", "Accept-Language: de")
        trip(stage)
        assert (await stage.get("", "accept-language: de")).status == 200
        assert (await stage.get("", "Accept-Language: en")).status == 503
        assert (await stage.get()).status == 503


async def test_a_get_with_a_body_is_another_get(door: Door) -> None:
    """A search by GET is neither kept for who asks without its body nor answered with what they got."""
    async with door.stage(Moody(GOOD % b""), config("cached_response")) as stage:
        assert (await stage.fetch("GET", USERS + "/search", body=b"mine")).status == 200
        assert (await stage.get("/plain")).status == 200
        trip(stage)
        assert (await stage.get("/search")).status == 503
        assert (await stage.get("/plain")).status == 200
        assert (await stage.fetch("GET", USERS + "/plain", body=b"mine")).status == 503


async def test_a_body_without_a_length_is_a_body(h2: Door) -> None:
    """HTTP/2 needs no Content-Length, and a small body may be here along with its head."""
    async with h2.stage(Moody(GOOD % b""), config("cached_response")) as stage:
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        client = caller.client
        assert (await client.fetch(b"GET", USERS.encode(), body=b"mine")).status == 200
        trip(stage)
        assert (await client.fetch(b"GET", USERS.encode())).status == 503


async def test_half_a_reply_is_not_kept(door: Door) -> None:
    """Neither one that the backend cut nor one that its client did not wait for."""
    moody = Moody(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    async with door.stage(moody, {**config("cached_response"), "timeouts": {"idle": 1}}) as stage:
        with pytest.raises(Cut):
            await stage.get()
        trip(stage)
        assert (await stage.get()).status == 503
