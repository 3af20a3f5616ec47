"""Every answer of the gateway's own is a problem document, and the same through both doors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from attrs import frozen
from structlog.testing import capture_logs

from tests.support.client import Answer
from tests.support.faults import fault
from tests.support.stage import USERS, Door, Stage, silent
from tests.support.upstream import Script, Wire, answering

OLD_503 = {
    "error": "service_unavailable",
    "message": "Circuit breaker is open",
    "circuit_breaker_state": "open",
}


@frozen
class Case:
    """How to get one error, and what its document must say beside the status."""

    status: int
    code: str
    source: str
    detail: str
    config: Mapping[str, Any] = {}
    script: Script = answering
    method: str = "GET"
    target: str = USERS
    fields: tuple[str, ...] = ()
    body: bytes | None = None
    before: Callable[[Stage], Awaitable[object]] | None = None
    members: Mapping[str, Any] = {}


async def garbage(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"what?\r\n\r\n")
    await wire.closed()


async def closing(wire: Wire) -> None:
    await wire.request()


async def trip(stage: Stage) -> None:
    stage.target().breaker.trip(trio.current_time())


async def break_a_gate(stage: Stage) -> None:
    """A bug of ours, for want of a real one."""
    endpoint = stage.gateway.runtime.plan.endpoints["users"]
    object.__setattr__(endpoint, "gates", (None,))


UNREACHABLE = {"url": "http://nowhere.example/"}

CASES = [
    Case(400, "bad_request", "client", "Dot segment in the path", target=USERS + "/../x"),
    Case(403, "forbidden", "client", "Client address not allowed", {"deny": ["127.0.0.1"]}),
    Case(404, "route_not_found", "client", "No endpoint found for path: x/y", target="/orchestrator/x/y"),
    Case(
        405,
        "method_not_allowed",
        "client",
        "Method PATCH not allowed. Allowed: ['GET']",
        {"methods": ["GET"]},
        method="PATCH",
    ),
    Case(
        413,
        "payload_too_large",
        "client",
        "Request body too large",
        {"max_body_bytes": 1},
        method="POST",
        body=b"xx",
    ),
    Case(414, "uri_too_long", "client", "Request target too long", target=USERS + "/" + "x" * 9000),
    Case(417, "expectation_failed", "client", "Only 100-continue can be expected", fields=("Expect: x",)),
    Case(
        431,
        "head_too_large",
        "client",
        "Request header fields too large",
        fields=tuple(f"X-{n}: {'x' * 1000}" for n in range(33)),
    ),
    Case(502, "connect_failed", "upstream", "Bad gateway - connection error", UNREACHABLE),
    Case(502, "upstream_reset", "upstream", "Bad gateway - connection error", script=closing),
    Case(502, "invalid_upstream_reply", "upstream", "Bad gateway - invalid reply", script=garbage),
    Case(503, "endpoint_disabled", "gateway", "Endpoint is disabled", {"disabled": True}),
    Case(503, "circuit_open", "gateway", "Circuit breaker is open", before=trip, members=OLD_503),
    Case(504, "upstream_timeout", "upstream", "Gateway timeout", {"timeout": 1}, silent),
    Case(
        508,
        "loop_detected",
        "client",
        "The request runs in a circle through this gateway",
        fields=("Via: 1.1 trio-gateway, 1.1 trio-gateway, 1.1 trio-gateway",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
async def test_an_error_is_a_problem_document(door: Door, case: Case) -> None:
    """Type, title, status, detail, code, source and request id, as RFC 9457 and old clients read them."""
    async with door.stage(case.script, case.config) as stage:
        if case.before is not None:
            await case.before(stage)
        answer = await stage.fetch(case.method, case.target, *case.fields, body=case.body)
        document = told(answer)
        assert (answer.status, document["status"]) == (case.status, case.status)
        assert (document["code"], document["source"]) == (case.code, case.source)
        assert document["detail"] == case.detail
        assert case.members.items() <= document.items()
        (line,) = await stage.lines()
        assert (line.status, line.reason) == (case.status, case.code)
        assert line.request_id.decode() == document["request_id"]


def told(answer: Answer) -> dict[str, Any]:
    """The document, after what every answer of our own must hold."""
    assert answer.value("content-type") == "application/problem+json"
    assert answer.value("content-length") == str(len(answer.body))
    assert len(answer.values("date")) == 1
    assert answer.values("x-orchestrated-by") == []
    document: dict[str, Any] = json.loads(answer.body)
    assert {"type", "title", "status", "detail", "code", "source", "request_id"} <= document.keys()
    assert answer.value("x-request-id") == document["request_id"]
    assert (document["source"] != "client") == bool(answer.values("proxy-status"))
    return document


@fault("rule 1")
async def test_a_bug_of_ours_costs_one_exchange(door: Door) -> None:
    """500 with what old clients read in it, logged and counted once, and not a word of the cause."""
    async with door.stage() as stage:
        caller = await stage.connect()
        plan = stage.gateway.runtime.plan
        await break_a_gate(stage)
        with capture_logs() as logs:
            answer = await caller.fetch("GET", USERS, "X-Request-ID: mine")
        document = told(answer)
        assert answer.status == 500
        assert [(log["event"], log["request_id"]) for log in logs] == [("request failed", "mine")]
        assert (document["error"], document["message"]) == ("internal_server_error", "Internal routing error")
        assert document["details"] == {"path": USERS, "method": "GET"}
        assert (document["code"], document["request_id"]) == ("internal_error", "mine")
        assert b"NoneType" not in answer.body
        assert stage.gateway.runtime.metrics.handler_errors == 1
        stage.gateway.runtime.metrics.handler_errors = 0
        object.__setattr__(plan.endpoints["users"], "gates", ())
        assert (await caller.fetch("GET", USERS)).status == 200


async def test_a_head_request_gets_an_error_s_head_alone(door: Door) -> None:
    """With the length that the document would have."""
    async with door.stage(endpoint={"disabled": True}) as stage:
        caller = await stage.connect()
        whole = await caller.fetch("GET", USERS, "X-Request-ID: x")
        bare = await caller.fetch("HEAD", USERS, "X-Request-ID: x")
        assert (bare.status, bare.body) == (503, b"")
        assert bare.value("content-length") == whole.value("content-length")


async def test_an_upstream_s_errors_pass_as_they_are(door: Door) -> None:
    """Only our own errors are documents of ours."""

    async def failing(wire: Wire) -> None:
        await wire.request()
        await wire.reply(b"oops", b"Content-Type: text/plain", status=b"500 Oops")
        await wire.closed()

    async with door.stage(failing) as stage:
        answer = await stage.get()
        assert (answer.status, answer.body, answer.value("content-type")) == (500, b"oops", "text/plain")
        assert answer.value("x-orchestrated-by") == "Orchestrator-API"


async def test_nothing_of_the_inside_is_told(door: Door) -> None:
    """Addresses and causes stay in the log."""
    async with door.stage(endpoint=UNREACHABLE) as stage:
        answer = await stage.get()
        everything = answer.body + b"".join(name + value for name, value in answer.headers)
        assert b"nowhere" not in everything
        assert b"refused" not in answer.body
