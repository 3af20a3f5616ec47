"""The registry through the management API: shapes are golden.json's; here is what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.admin.control import CONFIG, SECRET, control
from trio_gateway.background.state import StateStore

NEW = {"url": "http://127.0.0.1:9001/", "name": "new", "methods": ["GET"], "timeout": "250ms"}
EMPTY = f"admin: {{auth: {{jwt: {{secret: {SECRET}}}}}}}\nendpoints: []\n"


async def test_a_registration_serves_at_once_and_is_on_disk(tmp_path: Path) -> None:
    """When the answer comes both are true."""
    async with control(tmp_path, EMPTY) as gateway:
        reply = await gateway.post("/registry/endpoints", body={"config": NEW})
        assert reply.status == 200
        saved = StateStore(tmp_path / "state").load()
        assert [each.config["name"] for each in saved.endpoints] == ["new"]
        assert (await gateway.get("/orchestrator/new/x")).status == 200
        shown = (await gateway.get("/registry/endpoints/new")).json
        assert (shown["source"], shown["timeout"], shown["status"]) == ("api", 0.25, "active")


async def test_the_file_s_defaults_hold_for_registrations_too(tmp_path: Path) -> None:
    """A top-level block is the default for every endpoint, wherever it comes from; `${NAME}` stays text."""
    text = EMPTY + "circuit_breaker: {failure_threshold: 2}\ntimeout: 7\n"
    async with control(tmp_path, text) as gateway:
        data = {"url": NEW["url"], "name": "new", "description": "${HOME}"}
        await gateway.post("/registry/endpoints", body={"config": data})
        config = gateway.plane.runtime.registry.get("new").config
        assert (config.timeout, config.circuit_breaker.failure_threshold) == (7.0, 2)
        assert config.description == "${HOME}"


async def test_a_deletion_ends_the_traffic(tmp_path: Path) -> None:
    """At once, and for good."""
    async with control(tmp_path, EMPTY) as gateway:
        await gateway.post("/registry/endpoints", body={"config": NEW})
        assert (await gateway.fetch("DELETE", "/registry/endpoints/new")).status == 200
        assert (await gateway.get("/orchestrator/new")).status == 404
        assert StateStore(tmp_path / "state").load().endpoints == ()


async def test_what_can_t_be_stored_has_not_happened(tmp_path: Path) -> None:
    """507, and neither the registry nor the routes know of it."""
    async with control(tmp_path, EMPTY) as gateway:
        gateway.plane.registrations.store.problem = "no space left on device"
        reply = await gateway.post("/registry/endpoints", body={"config": NEW})
        assert (reply.status, reply.json["code"]) == (507, "storage_full")
        assert (await gateway.get("/registry/stats")).json["registry_stats"]["total"] == 0
        assert (await gateway.get("/orchestrator/new")).status == 404


@pytest.mark.parametrize(
    ("status", "served"), [("disabled", 503), ("unhealthy", 503), ("inactive", 200), ("active", 200)]
)
@pytest.mark.parametrize("by_body", [False, True])
async def test_a_status_is_in_force_at_once(tmp_path: Path, status: str, served: int, by_body: bool) -> None:
    """By query, as the old code took it, or by body, as its documents had it."""
    async with control(tmp_path) as gateway:
        path = "/registry/endpoints/users/status"
        if by_body:
            reply = await gateway.fetch("PUT", path, body={"status": status})
        else:
            reply = await gateway.fetch("PUT", f"{path}?status={status}")
        assert (reply.status, reply.json["new_status"]) == (200, status)
        assert (await gateway.get("/orchestrator/users")).status == served


@pytest.mark.parametrize(
    ("body", "type_", "loc"),
    [
        (None, "missing", ["query", "status"]),
        ({}, "missing", ["query", "status"]),
        ({"status": "bogus"}, "enum", ["body", "status"]),
        ({"status": ["active"]}, "enum", ["body", "status"]),
        ({"status": None}, "enum", ["body", "status"]),
    ],
)
async def test_a_status_that_is_none_is_told(tmp_path: Path, body: Any, type_: str, loc: list[str]) -> None:
    """Where it was looked for."""
    async with control(tmp_path) as gateway:
        reply = await gateway.fetch("PUT", "/registry/endpoints/users/status", body=body)
        assert reply.status == 422
        assert [(told["type"], told["loc"]) for told in reply.json["detail"]] == [(type_, loc)]


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ("", ["users", "orders", "legacy"], 3),
        ("?limit=1&offset=1", ["orders"], 3),
        ("?offset=7", [], 3),
        ("?status=disabled", ["legacy"], 1),
        ("?include_disabled=false", ["users", "orders"], 2),
        ("?status=active&include_disabled=0&limit=1", ["users"], 2),
    ],
)
async def test_a_list_is_filtered_then_paged(tmp_path: Path, query: str, ids: list[str], total: int) -> None:
    """`total_count` is what passed the filter; the other counts are of all."""
    async with control(tmp_path) as gateway:
        page = (await gateway.get(f"/registry/endpoints{query}")).json
        assert [each["endpoint_id"] for each in page["endpoints"]] == ids
        assert (page["total_count"], page["active_count"], page["disabled_count"]) == (total, 2, 1)


async def test_a_sync_forgets_registrations(tmp_path: Path) -> None:
    """And brings back what the file says."""
    async with control(tmp_path) as gateway:
        await gateway.fetch("DELETE", "/registry/endpoints/orders")
        new = {**NEW, "url": "http://127.0.0.1:9009/"}
        assert (await gateway.post("/registry/endpoints", body={"config": new})).status == 200
        result = (await gateway.post("/registry/sync")).json["sync_result"]
        assert result == {"added": ["orders"], "updated": [], "removed": ["new"], "errors": []}


async def test_a_reload_keeps_registrations(tmp_path: Path) -> None:
    """Only a sync removes them."""
    async with control(tmp_path, EMPTY) as gateway:
        await gateway.post("/registry/endpoints", body={"config": NEW})
        gateway.path.write_text(CONFIG.replace("9001", "9004"))
        assert (await gateway.post("/config/reload")).json["success"] is True
        assert (await gateway.get("/orchestrator/new")).status == 200


async def test_every_mistake_of_a_registration_is_told(tmp_path: Path) -> None:
    """With the path to it in the body and the value that stands there."""
    async with control(tmp_path, EMPTY) as gateway:
        data = {"url": "http://h/", "methods": ["get"], "timeout": -1, "pool": {"max_idle": "x"}}
        told = (await gateway.post("/registry/endpoints", body={"config": data})).json["detail"]
        assert [(each["loc"], each["input"]) for each in told] == [
            (["body", "config", "methods", 0], "get"),
            (["body", "config", "timeout"], -1),
            (["body", "config", "pool", "max_idle"], "x"),
        ]
