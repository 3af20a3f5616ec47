"""Routes through the management API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.admin.control import SECRET, control
from tests.support.upstream import Wire

CONFIG = f"""
server: {{prefix: /api}}
admin: {{auth: {{jwt: {{secret: {SECRET}}}}}}}
endpoints:
  - {{url: "http://127.0.0.1:9001/v1?k=1", name: users, version: v2}}
  - {{url: "https://b.example/x/y", name: old, path: {{mode: replace_last}}}}
  - {{url: "http://127.0.0.1:9001/posts", name: posts, methods: [POST], match: {{methods: [POST]}}}}
  - {{url: "http://127.0.0.1:9001/h", name: tenant, match: {{hosts: [t.example]}}}}
  - {{url: "http://127.0.0.1:9005/", name: off, disabled: true}}
"""


@pytest.mark.parametrize(
    ("path", "endpoint", "relative", "forwarded"),
    [
        ("users", "users", "", "http://127.0.0.1:9001/v1?k=1"),
        ("v2/users/a%2Fb/", "users", "a%2Fb/", "http://127.0.0.1:9001/v1/a%2Fb/?k=1"),
        ("old/z", "old", "z", "https://b.example/x/z"),
        ("posts/1?method=POST", "posts", "1", "http://127.0.0.1:9001/posts/1"),
        ("posts/1", None, None, "No matching endpoint found"),
        ("tenant?host=t.example", "tenant", "", "http://127.0.0.1:9001/h"),
        ("tenant", None, None, "No matching endpoint found"),
        ("off/x", "off", "x", "http://127.0.0.1:9005/x"),
        ("users/%2e%2e/x", None, None, "Dot segment in the path"),
        ("users/%zz", None, None, "Invalid escape in the path"),
    ],
)
async def test_a_path_is_followed_to_its_end(
    tmp_path: Path, path: str, endpoint: str | None, relative: str | None, forwarded: str
) -> None:
    """By the router and the join that serve, on the raw path, and nothing is sent."""
    async with control(tmp_path, CONFIG) as gateway:
        reply = await gateway.get(f"/router/debug/{path}")
        assert reply.status == 200
        assert reply.json["input_path"] == path.partition("?")[0]
        if endpoint is None:
            assert (reply.json["matched_endpoint"], reply.json["error"]) == (None, forwarded)
        else:
            assert reply.json["matched_endpoint"]["endpoint_id"] == endpoint
            assert (reply.json["relative_path"], reply.json["would_forward_to"]) == (relative, forwarded)
        assert gateway.backends[0].connections == 0


async def test_routes_are_those_that_serve(tmp_path: Path) -> None:
    """Of every endpoint that is not disabled; the count of a refresh is theirs."""
    async with control(tmp_path, CONFIG) as gateway:
        listed = (await gateway.get("/router/routes")).json
        patterns = [route["pattern"] for route in listed["routes"]]
        assert patterns == ["/users", "/v2/users", "/old", "/posts", "/tenant"]
        assert (
            (await gateway.post("/router/refresh")).json["active_routes_count"] == listed["total_count"] == 5
        )
        await gateway.fetch("PUT", "/registry/endpoints/off/status?status=active")
        assert (await gateway.get("/router/routes")).json["total_count"] == 6


async def failing(wire: Wire) -> None:
    """A backend that answers 500."""
    await wire.request()
    await wire.reply(b"", status=b"500 Oops")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (
            "users",
            {
                "url": "http://127.0.0.1:9001/v1?k=1",
                "status_code": 500,
                "success": False,
                "error": "status 500",
            },
        ),
        (
            "posts",
            {"url": "http://127.0.0.1:9001/posts", "status_code": None, "success": True, "error": None},
        ),
        ("off", {"status_code": None, "success": False, "error": "connection error: refused"}),
    ],
)
async def test_a_backend_is_asked_as_a_health_check_would(
    tmp_path: Path, endpoint: str, expected: dict[str, Any]
) -> None:
    """Its status is shown, whatever it is; where GET is not allowed a connection is enough."""
    async with control(tmp_path, CONFIG, backends={("127.0.0.1", 9001): failing}) as gateway:
        result = (await gateway.get(f"/router/test/{endpoint}")).json["test_result"]
        assert {name: result[name] for name in expected} == expected
        assert result["endpoint_id"] == endpoint
        assert (await gateway.get(f"/registry/endpoints/{endpoint}")).json["status"] != "unhealthy"
