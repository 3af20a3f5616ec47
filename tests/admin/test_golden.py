"""The old gateway's clients: 49 of its replies, recorded, and replayed in their order against ours.

Statuses, field names, nesting and types are the contract, and so are the values that name neither times
nor measurements. Where ours differs on purpose, the exchange stands in a list here, with its reason.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.admin.control import SECRET, Control, Reply, control
from tests.support.upstream import Wire

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
CONFIG = (
    GOLDEN["config"]
    + f"server: {{bind: ['127.0.0.1:8000']}}\nadmin: {{auth: {{jwt: {{secret: {SECRET}}}}}}}\n"
)

MEASURED = {"timestamp", "response_time", "average_response_time", "version", "description", "config_path"}
"""Fields whose values are times, durations or names of an installation; so is all that ends in `_time`."""

PROBLEM = {"type", "title", "status", "detail", "code", "source", "request_id"}

DIFFERENT_STATUS = {
    "GET /orchestrator/legacy": 503,  # a disabled endpoint says that it is disabled, as the documents promise
}

DIFFERENT_VALUES = {
    # an endpoint that was registered through the API is checked like any other
    "GET /health/status": {"total_endpoints", "healthy_endpoints", "health_percentage"},
    "GET /health/summary": {"total_endpoints", "healthy_endpoints", "health_percentage"},
    # and probes count up to their thresholds: `orders` was asked three times to get there
    "GET /health/endpoints": {"total_count", "error_message", "consecutive_failures"},
    "GET /health/unhealthy": {"error_message", "consecutive_failures"},
    # what is wrong is said in our words
    'POST /registry/endpoints {"config": {"url": "nonsense", "name": "b a d"}}': {"type", "msg"},
    # urls are joined without the doubled slash
    "GET /router/debug/users/a/b": {"would_forward_to"},
}

DIFFERENT_SHAPES = {
    # pydantic writes an exception as an empty object, ours is told
    'POST /registry/endpoints {"config": {"url": "nonsense", "name": "b a d"}}': {"error"},
}


def name_of(exchange: dict[str, Any]) -> str:
    body = "" if exchange["body"] is None else f" {json.dumps(exchange['body'])}"
    return f"{exchange['method']} {exchange['path']}{body}"


def documents(exchange: dict[str, Any], reply: Reply) -> tuple[Any, Any]:
    """The recorded document and ours, without the endpoint that only ours checks."""
    ours = reply.json
    if name_of(exchange) == "GET /health/endpoints":
        ours["endpoints"] = [each for each in ours["endpoints"] if each["endpoint_id"] != "added"]
    return exchange["reply"], ours


async def answering_json(wire: Wire) -> None:
    """The backend of the recording."""
    while True:
        await wire.request()
        await wire.reply(b'{"ok": true}', b"Content-Type: application/json")


async def replay(gateway: Control) -> list[tuple[dict[str, Any], Reply]]:
    """All exchanges, in their order, on one gateway."""
    for _ in range(3):
        await gateway.post("/health/check/orders")
    await gateway.post("/health/check/users")
    replies = []
    for exchange in GOLDEN["exchanges"]:
        path = exchange["path"].replace("config/golden.yaml", str(gateway.path))
        replies.append((exchange, await gateway.fetch(exchange["method"], path, body=exchange["body"])))
    return replies


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], Reply]]:
    """The recording and our replies."""

    async def run() -> list[tuple[dict[str, Any], Reply]]:
        backends = {("127.0.0.1", 9001): answering_json}
        async with control(tmp_path_factory.mktemp("golden"), CONFIG, backends=backends) as gateway:
            return await replay(gateway)

    return trio.run(run, clock=MockClock())  # time stands still: nothing happens that nobody asked for


# ---- comparing ---------------------------------------------------------------------------------------


def differences(recorded: Any, ours: Any, skipped: set[str], shapes: set[str], path: str = "") -> list[str]:
    """Where our document lacks a field, has another type, or another value than the recorded one."""
    key = path.rpartition(".")[2].partition("[")[0]
    if key in shapes:
        return []
    if isinstance(recorded, dict) and isinstance(ours, dict):
        lost = [f"{path}.{name} is missing" for name in recorded if name not in ours]
        same = [
            differences(recorded[name], ours[name], skipped, shapes, f"{path}.{name}")
            for name in recorded
            if name in ours
        ]
        return [*lost, *(each for found in same for each in found)]
    if isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        pairs = enumerate(zip(recorded, ours, strict=True))
        return [e for at, (a, b) in pairs for e in differences(a, b, skipped, shapes, f"{path}[{at}]")]
    if type(recorded) is not type(ours):
        return [f"{path} is {ours!r}, not {recorded!r}"]
    free = key in MEASURED or key.endswith("_time") or key == "last_health_check" or key in skipped
    return [] if free or recorded == ours else [f"{path} is {ours!r}, not {recorded!r}"]


def test_statuses_are_the_recorded_ones(replayed: list[tuple[dict[str, Any], Reply]]) -> None:
    """All 49, but for the one that is named."""
    assert len(replayed) == 49
    for exchange, reply in replayed:
        expected = DIFFERENT_STATUS.get(name_of(exchange), exchange["status"])
        assert reply.status == expected, (name_of(exchange), reply.body)


def test_documents_are_the_recorded_ones(replayed: list[tuple[dict[str, Any], Reply]]) -> None:
    """Every recorded field is there, where it was, with its type and its value."""
    found = {}
    for exchange, reply in replayed:
        name = name_of(exchange)
        if name in DIFFERENT_STATUS:
            continue
        skipped, shapes = DIFFERENT_VALUES.get(name, set()), DIFFERENT_SHAPES.get(name, set())
        if wrong := differences(*documents(exchange, reply), skipped, shapes):
            found[name] = wrong
    assert found == {}


def test_errors_have_the_recorded_detail_and_more(replayed: list[tuple[dict[str, Any], Reply]]) -> None:
    """Old clients read `detail`; the document around it is RFC 9457's, and says so."""
    for exchange, reply in replayed:
        if reply.status >= 400:
            assert reply.header("Content-Type") == "application/problem+json", name_of(exchange)
            assert set(reply.json) >= PROBLEM
            if reply.status == 422:
                assert len(reply.json["errors"]) == len(reply.json["detail"])


def test_times_have_an_offset(replayed: list[tuple[dict[str, Any], Reply]]) -> None:
    """RFC 3339 in UTC, everywhere, where the old gateway had naive local times or a constant."""
    times = re.compile(r'"([^"]*(?:_time|timestamp|last_health_check))":"([^"]+)"')
    seen = [found for _, reply in replayed for found in times.findall(reply.body.decode())]
    assert len(seen) > 30
    for name, value in seen:
        assert datetime.fromisoformat(value).utcoffset() == timedelta(0), (name, value)


def test_each_named_difference_is_one(replayed: list[tuple[dict[str, Any], Reply]]) -> None:
    """A list of exceptions shrinks when its reasons go: each entry is still needed."""
    for exchange, reply in replayed:
        name = name_of(exchange)
        if name in DIFFERENT_STATUS:
            assert reply.status != exchange["status"]
        for skipped in DIFFERENT_VALUES.get(name, ()):
            others = DIFFERENT_VALUES[name] - {skipped}
            shapes = DIFFERENT_SHAPES.get(name, set())
            assert differences(*documents(exchange, reply), others, shapes), (name, skipped)
