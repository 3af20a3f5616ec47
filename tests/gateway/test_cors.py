"""Cross-origin requests: answered by the gateway where it is configured to, else the backend's business."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.faults import fault
from tests.support.stage import USERS, Door, recording
from tests.support.upstream import Received

ORIGIN = "https://app.example"
PREFLIGHT = [
    f"Origin: {ORIGIN}",
    "Access-Control-Request-Method: PUT",
    "Access-Control-Request-Headers: x-a, x-b",
]
CORS: dict[str, Any] = {"cors": {"origins": [ORIGIN]}, "methods": ["GET", "PUT"]}


@fault("M2")
async def test_a_preflight_is_answered_without_the_backend(door: Door) -> None:
    """204 with what is allowed, and nothing is forwarded."""
    async with door.stage(endpoint=CORS) as stage:
        answer = await stage.fetch("OPTIONS", USERS, *PREFLIGHT)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.value("access-control-allow-origin") == ORIGIN
        assert answer.value("access-control-allow-methods") == "GET, PUT, HEAD"
        assert answer.value("access-control-allow-headers") == "x-a, x-b"
        assert answer.value("access-control-max-age") == "600"
        assert answer.values("access-control-allow-credentials") == []
        assert "Origin" in answer.values("vary")[0]
        assert answer.values("x-request-id") != []
        assert stage.backend.connections == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "null"])
async def test_a_foreign_origin_gets_no_permission(door: Door, origin: str) -> None:
    """No error, and no permission, before and behind the request itself."""
    async with door.stage(endpoint=CORS) as stage:
        for method in ("OPTIONS", "GET"):
            answer = await stage.fetch(method, USERS, f"Origin: {origin}", *PREFLIGHT[1:])
            assert answer.status in (200, 204)
            assert answer.values("access-control-allow-origin") == []
            assert any("Origin" in value for value in answer.values("vary"))


async def test_a_reply_carries_the_gateway_s_permission_alone(door: Door) -> None:
    """It stands in the place of the backend's own: browsers accept only one."""
    reply = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n"
    async with door.stage(recording([], reply), CORS) as stage:
        answer = await stage.get("", f"Origin: {ORIGIN}")
        assert answer.values("access-control-allow-origin") == [ORIGIN]
        assert answer.values("vary") == ["Accept", "Origin"]


async def test_errors_carry_the_permission_too(door: Door) -> None:
    """Otherwise a browser hides from its page what went wrong."""
    async with door.stage(endpoint=CORS) as stage:
        answer = await stage.fetch("DELETE", USERS, f"Origin: {ORIGIN}")
        assert answer.status == 405
        assert answer.values("access-control-allow-origin") == [ORIGIN]


async def test_credentials_and_lists_are_configured(door: Door) -> None:
    """`credentials`, `headers`, `methods` and `max_age` say what a preflight is told."""
    cors = {"origins": [ORIGIN], "credentials": True, "headers": ["X-A"], "methods": ["GET"], "max_age": 5}
    async with door.stage(endpoint={"cors": cors}) as stage:
        answer = await stage.fetch("OPTIONS", USERS, *PREFLIGHT)
        assert answer.value("access-control-allow-credentials") == "true"
        assert answer.value("access-control-allow-headers") == "X-A"
        assert answer.value("access-control-allow-methods") == "GET, HEAD"
        assert answer.value("access-control-max-age") == "5"


async def test_any_origin_can_be_allowed(door: Door) -> None:
    """`*` is said as it is, and the reply does not vary."""
    async with door.stage(endpoint={"cors": {"origins": ["*"]}}) as stage:
        answer = await stage.get("", f"Origin: {ORIGIN}")
        assert answer.values("access-control-allow-origin") == ["*"]
        assert answer.values("vary") == []


@pytest.mark.parametrize("fields", [[], PREFLIGHT[:1], PREFLIGHT[1:]])
async def test_other_options_requests_are_the_backend_s(door: Door, fields: list[str]) -> None:
    """Without an origin and a method to ask for, OPTIONS is a method like any other."""
    seen: list[Received] = []
    async with door.stage(recording(seen), {"cors": {"origins": [ORIGIN]}}) as stage:
        assert (await stage.fetch("OPTIONS", USERS, *fields)).status == 200
        assert len(seen) == 1


@fault("M2")
@pytest.mark.parametrize(("methods", "status"), [(["GET", "OPTIONS"], 200), (["GET"], 405)])
async def test_without_a_cors_block_preflights_are_the_backend_s(
    door: Door, methods: list[str], status: int
) -> None:
    """They pass if `methods` has OPTIONS, and so do the backend's permissions."""
    reply = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n"
    async with door.stage(recording([], reply), {"methods": methods}) as stage:
        answer = await stage.fetch("OPTIONS", USERS, *PREFLIGHT)
        assert answer.status == status
        assert answer.values("access-control-allow-origin") == (["*"] if status == 200 else [])
