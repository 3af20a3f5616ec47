"""One exchange from route to access line: whatever its end, it is answered, counted and logged once."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
import trio
from structlog.testing import capture_logs

from tests.support.client import request
from tests.support.gateway import World, world
from tests.support.upstream import Script, Wire, answering
from trio_gateway.errors import BadRequest, ShuttingDown
from trio_gateway.proxy import serve as module
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.serve import record_refusal

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST], timeout: 5}
"""
FIELDS = [
    "time",
    "request_id",
    "client",
    "method",
    "target",
    "version",
    "endpoint",
    "upstream",
    "status",
    "received",
    "sent",
    "duration",
    "attempts",
    "reason",
    "door",
]


def line(here: World) -> dict[str, Any]:
    """The one access line."""
    (only,) = here.lines
    return dict(zip(FIELDS, only, strict=False))


async def cut(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.closed()


async def late(wire: Wire) -> None:
    await wire.request()
    await trio.sleep(2)
    await wire.reply(b"four")


@pytest.mark.parametrize(
    ("script", "data", "expected"),
    [
        (late, request(USERS + "/x?y"), (200, "completed", "users", 1, 4, 2.0)),
        (answering, request("/orchestrator/nobody"), (404, "route_not_found", "", 0, None, 0.0)),
        (answering, request(USERS, method="DELETE"), (405, "method_not_allowed", "users", 0, None, 0.0)),
        (answering, request(USERS + "/%00"), (400, "bad_request", "", 0, None, 0.0)),
        (silent, request(USERS), (504, "upstream_timeout", "users", 1, None, 5.0)),
        (cut, request(USERS), (200, "upstream_truncated", "users", 1, 4, 0.0)),
    ],
    ids=["completed", "no route", "method", "bad path", "timeout", "cut"],
)
async def test_each_exchange_leaves_one_line(
    script: Script,
    data: bytes,
    expected: tuple[int, str, str, int, int | None, float],
    autojump_clock: object,
) -> None:
    """With what the client got, why it ended, who served it, how often it was tried, and its times."""
    status, reason, endpoint, attempts, sent, duration = expected
    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(data)
        try:
            await client.answer(data.split(b" ")[0].decode())
        except h11.RemoteProtocolError:
            assert reason == "upstream_truncated"
        await trio.sleep(0.01)
        seen = line(here)
        assert (seen["status"], seen["reason"], seen["endpoint"]) == (status, reason, endpoint)
        assert seen["attempts"] == attempts
        assert sent is None or seen["sent"] == sent
        assert seen["duration"] == pytest.approx(duration, abs=0.05)
        assert (seen["client"], seen["door"], seen["version"]) == ("127.0.0.1", "lane", b"1.1")
        assert seen["target"] == data.split(b" ")[1]
        assert seen["upstream"] == ("backend.example:80" if attempts else "")
        stats = here.gateway.runtime.metrics.endpoints()[endpoint]
        assert stats.in_flight == 0
        assert [count for (_, _, why), count in stats.requests.items() if why == reason] == [1]
        assert len(here.gateway.runtime.in_flight) == 0


async def test_bodies_are_counted_in_bytes_of_payload(autojump_clock: object) -> None:
    """Not of framing, in either direction."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        await wire.closed()

    async with world(CONFIG, script) as here:
        client = await here.client()
        head = request(USERS, "Transfer-Encoding: chunked", method="POST")
        await client.send(head + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
        await client.answer()
        assert (line(here)["received"], line(here)["sent"]) == (5, 3)
        stats = here.gateway.runtime.metrics.endpoint("users")
        assert (stats.bytes_in, stats.bytes_out) == (5, 3)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_bug_is_answered_logged_and_costs_one_exchange(
    streamed: bool, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 with what clients of the old gateway read, nothing of the inside, and the next one is served."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    async with world(CONFIG) as here:
        client = await here.client()
        with capture_logs() as logged:
            real = module._deliver
            monkeypatch.setattr(module, "_deliver", broken)
            length = ["Content-Length: 3"] if streamed else []
            await client.send(request(USERS, *length, method="POST"))
            await trio.sleep(0.1)
            await client.send(b"abc" if streamed else b"")
            answer = await client.answer()
            monkeypatch.setattr(module, "_deliver", real)
        assert answer.status == 500
        document = json.loads(answer.body)
        assert document["error"] == "internal_server_error"
        assert document["details"] == {"path": USERS, "method": "POST"}
        assert b"secret" not in answer.body
        assert [entry["event"] for entry in logged] == ["request failed"]
        assert logged[0]["request_id"] == answer.value("x-request-id")
        assert here.gateway.runtime.metrics.handler_errors == 1
        assert line(here)["reason"] == "internal_error"
        assert (await here.get(USERS)).status == 200


async def test_a_refused_head_is_counted_and_logged(autojump_clock: object) -> None:
    """Though nothing in it can be trusted."""
    async with world(CONFIG) as here:
        runtime = here.gateway.runtime
        record_refusal(runtime, BadRequest(), b"id-1", "203.0.113.9", "lane")
        assert runtime.metrics.heads_refused == {"bad_request": 1}
        seen = line(here)
        assert (seen["request_id"], seen["client"], seen["status"]) == (b"id-1", "203.0.113.9", 400)
        assert (seen["method"], seen["target"], seen["reason"]) == (None, None, "bad_request")


async def test_an_exchange_keeps_the_plan_it_started_with(autojump_clock: object) -> None:
    """A reload in the middle of it changes only what comes after."""

    async with world(CONFIG, late) as here:
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(1)
        here.gateway.runtime.apply(here.gateway.config.__class__(server=here.gateway.config.server))
        assert (await client.answer()).body == b"four"
        assert (await client.get(USERS)).status == 404
        await trio.sleep(0.1)
        assert here.backend.open == 0


async def test_what_ends_an_exchange_too_late_does_not_end_the_next(autojump_clock: object) -> None:
    """Both run on one connection, whose scope stays; whoever kept the first has no hold on it."""
    kept: list[Exchange] = []
    async with world(CONFIG) as here:
        table = here.gateway.runtime.in_flight
        enter = table.enter

        def noted(exchange: Exchange) -> None:
            kept.append(exchange)
            enter(exchange)

        table.enter = noted  # type: ignore[method-assign]
        client = await here.client()
        assert (await client.get(USERS)).status == 200
        kept[0].cancel(ShuttingDown())
        await trio.sleep(0.1)
        assert (await client.get(USERS)).status == 200
        assert here.backend.connections == 1
