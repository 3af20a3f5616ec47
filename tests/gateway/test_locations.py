"""A backend names its own places; its clients must be able to reach them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import Answer
from tests.support.faults import fault
from tests.support.stage import Door, recording


async def answer(door: Door, field: str, endpoint: dict[str, Any]) -> Answer:
    """What the client gets of a redirect with this field."""
    reply = f"HTTP/1.1 302 Found\r\n{field}\r\nContent-Length: 0\r\n\r\n".encode()
    async with door.stage(recording([], reply), endpoint) as stage:
        return await stage.get()


@fault("M2")
@pytest.mark.parametrize(
    ("field", "sent", "got"),
    [
        (
            "Location",
            "http://backend.example/v1/next?a=b",
            "http://gateway.example/orchestrator/users/next?a=b",
        ),
        ("Location", "http://backend.example:80/v1", "http://gateway.example/orchestrator/users"),
        ("Location", "/v1/next", "/orchestrator/users/next"),
        ("Location", "//backend.example/v1/next", "http://gateway.example/orchestrator/users/next"),
        ("Location", "next", "next"),
        ("Location", "http://other.example/v1/next", "http://other.example/v1/next"),
        ("Location", "https://backend.example/v1/next", "https://backend.example/v1/next"),
        ("Location", "http://backend.example/v2", "http://backend.example/v2"),
        ("Content-Location", "/v1/next", "/orchestrator/users/next"),
        ("Set-Cookie", "a=b; Path=/v1; HttpOnly", "a=b; Path=/orchestrator/users; HttpOnly"),
        ("Set-Cookie", "a=b; path=/v1/x", "a=b; path=/orchestrator/users/x"),
        ("Set-Cookie", "a=b", "a=b"),
    ],
)
async def test_the_backend_s_own_places_become_the_client_s(
    door: Door, field: str, sent: str, got: str
) -> None:
    """`location: rewrite` turns the target's authority and base path into the client's; others pass."""
    endpoint = {"url": "http://backend.example/v1"}
    replied = await answer(door, f"{field}: {sent}", endpoint)
    assert (replied.status, replied.value(field)) == (302, got)


async def test_places_pass_when_told_so(door: Door) -> None:
    """`location: pass` changes nothing."""
    endpoint = {"headers": {"location": "pass"}}
    got = await answer(door, "Location: http://backend.example/x", endpoint)
    assert got.value("location") == "http://backend.example/x"
