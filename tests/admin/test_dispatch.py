"""From a request to an operation and back: the order of things, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from tests.admin.control import ADDRESS, CONFIG, Control, control, token
from tests.support.doors import H2Caller, LaneCaller
from trio_gateway.admin import operations
from trio_gateway.admin.operation import Call, Operation
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.registry_api import sync_registry

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def buggy(plane: Plane, call: Call) -> None:
    """Fail."""
    raise ZeroDivisionError("secret detail")


@asynccontextmanager
async def with_a_bug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Control]:
    """A gateway whose sync has a bug."""

    def broken(row: Operation) -> Operation:
        return attrs.evolve(row, view=buggy) if row.view is sync_registry else row

    monkeypatch.setattr(operations, "TABLE", tuple(map(broken, operations.TABLE)))
    async with control(folder) as gateway:
        yield gateway


async def test_a_bug_is_a_500_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has it with the request's id, the audit has the result, the client a problem document."""
    async with with_a_bug(tmp_path, monkeypatch) as gateway:
        with capture_logs() as logs:
            reply = await gateway.post("/registry/sync", "X-Request-ID: r1")
        assert (reply.status, reply.json["detail"]) == (500, "Internal routing error")
        assert b"secret" not in reply.body
        assert [line["result"] for line in logs if line["event"] == "audit"] == [500]
        assert [line["request_id"] for line in logs if line["event"] == "view failed"] == ["r1"]


async def test_nothing_is_read_before_the_caller_is_known(tmp_path: Path) -> None:
    """Host, then token, then parameters, then the body: each hides what comes behind it."""
    async with control(tmp_path) as gateway:
        for fields, how, status, code in (
            (("Host: evil.example",), {"scope": None}, 403, "host_not_allowed"),
            ((), {"scope": None}, 401, "unauthorized"),
            ((), {"scope": "read"}, 403, "insufficient_scope"),
            ((), {}, 422, "validation_failed"),
        ):
            reply = await gateway.post("/registry/endpoints", *fields, body=b"{", **how)  # type: ignore[arg-type]
            assert (reply.status, reply.json["code"]) == (status, code)


async def test_a_body_has_a_limit(tmp_path: Path) -> None:
    """413 from the announcement alone."""
    async with control(tmp_path) as gateway:
        caller = LaneCaller(await gateway.network.connect(*ADDRESS))
        fields = (f"Authorization: Bearer {token()}", "Host: localhost")
        call = await caller.open("POST", "/registry/endpoints", *fields, length=5_000_000)
        answer = await call.answer()
        assert answer.status == 413
        assert answer.value("Content-Type") == "application/problem+json"
        caller.vanish()


async def test_replies_are_for_nobody_s_cache(tmp_path: Path) -> None:
    """What an operator sees is how it is now."""
    async with control(tmp_path) as gateway:
        assert (await gateway.get("/registry/stats")).header("Cache-Control") == "no-store"


async def test_head_is_there_wherever_get_is(tmp_path: Path) -> None:
    """With the same guard and without a body."""
    async with control(tmp_path) as gateway:
        reply = await gateway.fetch("HEAD", "/registry/stats")
        assert (reply.status, reply.body) == (200, b"")
        assert int(reply.header("Content-Length")) > 50
        assert (await gateway.fetch("HEAD", "/registry/stats", scope=None)).status == 401


async def test_http_2_reaches_the_same_operations(tmp_path: Path) -> None:
    """Through the other door, many on one connection."""
    async with control(tmp_path, CONFIG.replace("server: {", "server: {h2c: true, ")) as gateway:
        caller = await H2Caller.start(await gateway.network.connect(*ADDRESS), gateway.nursery)
        fields = ("Host: localhost:8000", f"Authorization: Bearer {token()}")
        answers = []
        for path in ("/registry/stats", "/livez", "/config/status"):
            answers.append(await caller.fetch("GET", path, *fields))
        assert [answer.status for answer in answers] == [200, 200, 200]
        denied = await caller.fetch("GET", "/registry/stats", "Host: localhost:8000")
        assert denied.status == 401
        caller.vanish()


@pytest.mark.parametrize(
    "path", ["/config%2Fstatus", "//config/status", "/./config/status", "/config/status/", "/Config/status"]
)
async def test_another_spelling_is_another_path(tmp_path: Path, path: str) -> None:
    """Whatever a spelling leads to, it leads nobody past the guard."""
    async with control(tmp_path) as gateway:
        assert (await gateway.get(path, scope=None)).status in (400, 401, 404)


async def test_many_at_once_keep_apart(tmp_path: Path) -> None:
    """Each request gets the answer that is its own."""
    found: dict[str, Any] = {}

    async def ask(gateway: Control, endpoint: str) -> None:
        found[endpoint] = (
            await gateway.get(f"/registry/endpoints/{endpoint}", f"X-Request-ID: {endpoint}")
        ).json

    async with control(tmp_path) as gateway, trio.open_nursery() as nursery:
        for endpoint in ("users", "orders", "legacy"):
            nursery.start_soon(ask, gateway, endpoint)
    assert {id_: document["endpoint_id"] for id_, document in found.items()} == {id_: id_ for id_ in found}


async def test_each_request_leaves_an_access_line(tmp_path: Path) -> None:
    """With its id, and with what was wrong; whatever was asked, and whether it was known or not."""
    async with control(tmp_path) as gateway:
        reply = await gateway.get("/registry/stats?x=1", "X-Request-ID: r1", "traceparent: " + CONTEXT)
        await gateway.get("/registry/stats", "X-Request-ID: r2", scope=None)
        await gateway.get("/nowhere", "X-Request-ID: r3")
        await gateway.post("/livez", "X-Request-ID: r4")
        await gateway.get("/registry/endpoints/none", "X-Request-ID: r5")
        first, *others = gateway.lines
        assert (first.request_id, first.method, first.request_target) == ("r1", "GET", b"/registry/stats?x=1")
        assert (first.status, first.sent, first.reason) == (200, len(reply.body), "completed")
        assert (first.door, first.endpoint, first.traceparent) == ("quart", None, CONTEXT.encode())
        assert [(line.request_id, line.status, line.reason) for line in others] == [
            ("r2", 401, "unauthorized"),
            ("r3", 404, "not_found"),
            ("r4", 405, "method_not_allowed"),
            ("r5", 404, "endpoint_not_found"),
        ]


async def test_why_a_token_is_refused_stands_in_the_access_line(tmp_path: Path) -> None:
    """The reply says one word, the line what the library found."""
    async with control(tmp_path) as gateway:
        await gateway.get("/registry/stats", "Authorization: Bearer a.b.c", scope=None)
        (line,) = gateway.lines
        assert (line.status, line.reason) == (401, "unauthorized")
        assert line.cause
