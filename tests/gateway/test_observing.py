"""What operators can see of a request from outside, whichever door it came through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.observe.scrape import families, value
from tests.support.doors import Cut
from tests.support.gateway import unprobed
from tests.support.stage import USERS, Door, Stage, config_text, silent
from tests.support.upstream import Script, Wire
from trio_gateway.background.watcher import Reloader
from trio_gateway.config.load import parse_config
from trio_gateway.observe.exposition import render
from trio_gateway.observe.logs import configure


async def leaving(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Le")


async def babbling(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"220 mail.example ESMTP\r\n\r\n")


async def breaking_off(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")


def sample(stage: Stage, name: str, **labels: str) -> float | None:
    """A sample of the endpoint `users`."""
    return value(stage.gateway.runtime.metrics, name, endpoint="users", **labels)


@pytest.mark.parametrize(
    ("script", "reason", "cause"),
    [
        (leaving, "invalid_upstream_reply", "the reply's head broke off: closed without a reply"),
        (babbling, "invalid_upstream_reply", "no HTTP/1.x status line"),
        (breaking_off, "upstream_truncated", "the reply's body ended early"),
    ],
)
async def test_an_access_line_says_what_lies_behind(
    script: Script, reason: str, cause: str, door: Door
) -> None:
    """The client reads a general word, the operator what went wrong."""
    async with door.stage(script) as stage:
        with suppress(Cut):
            assert cause.encode() not in (await stage.get()).body
        (line,) = await stage.lines()
        assert (line.reason, line.cause) == (reason, cause)


async def test_a_target_that_refuses_is_named_so(door: Door) -> None:
    """The system's words for it; a request that went well has none."""
    async with door.stage(others=[{"url": "http://nobody.example/", "name": "gone"}]) as stage:
        await stage.get()
        await stage.fetch("GET", "/orchestrator/gone")
        well, failed = await stage.lines()
        assert (well.reason, well.cause) == ("completed", None)
        assert (failed.status, failed.reason) == (502, "connect_failed")
        assert "refused" in (failed.cause or "")


async def test_a_request_leaves_its_marks(door: Door) -> None:
    """How it ended, how long it took, its bytes, and the connection it made."""
    async with door.stage() as stage:
        await stage.post(b"12345")
        await stage.get()
        await stage.lines()
        labels = {"status": "2xx", "reason": "completed"}
        assert sample(stage, "requests_total", method="POST", **labels) == 1
        assert sample(stage, "request_duration_seconds_count") == 2
        assert sample(stage, "request_body_bytes_total") == 5
        assert sample(stage, "requests_in_flight") == 0
        assert sample(stage, "upstream_connects_total") == 1
        assert sample(stage, "upstream_connect_duration_seconds_count") == 1
        assert sample(stage, "upstream_connections", state="idle") == 1


async def test_a_crowded_pool_shows(door: Door) -> None:
    """Who is served, who waits, and how long the waits took."""
    async with door.stage(silent, {"pool": {"max_connections": 1}, "timeout": 4}) as stage:
        calls = [await stage.open("GET", USERS) for _ in range(3)]
        await trio.sleep(1)
        assert sample(stage, "requests_in_flight") == 3
        assert sample(stage, "upstream_connections", state="active") == 1
        assert sample(stage, "upstream_requests_waiting") == 2
        for call in calls:
            assert (await call.answer()).status == 504
        await stage.lines()
        assert sample(stage, "upstream_requests_waiting") == 0
        assert sample(stage, "upstream_wait_duration_seconds_sum") == pytest.approx(8, abs=0.01)


async def test_failed_connects_are_counted_by_reason(door: Door) -> None:
    """And took no time that would be mixed up with that of the others."""
    async with door.stage(endpoint={"url": "http://nobody.example/"}) as stage:
        await stage.get()
        await stage.lines()
        assert sample(stage, "upstream_connect_failures_total", reason="connect_failed") == 1
        assert sample(stage, "upstream_connect_duration_seconds_count") == 0


async def test_numbers_outlive_a_change_of_target(lane: Door) -> None:
    """The pool is another one, its counts go on; of an endpoint that went, nothing is left."""
    async with lane.stage() as stage:
        runtime = stage.gateway.runtime
        await stage.get()
        before = stage.target().pool
        text = config_text({"pool": {"max_idle": 1}})
        runtime.apply(unprobed(parse_config(text, "test.yaml", {}).require()))
        await stage.get()
        assert stage.target().pool is not before
        assert sample(stage, "upstream_connects_total") == 2
        runtime.apply(parse_config("endpoints: []", "test.yaml", {}).require())
        shown = [each for family in families(render(runtime.metrics)) for each in family.samples]
        assert not [each.name for each in shown if each.labels.get("endpoint") == "users"]


async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """The gateway's log from WARNING on; logging is global and put back."""
    root, stream = logging.getLogger(), StringIO()
    handlers, level = root.handlers[:], root.level
    configure("json", "warning", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_a_reload_changes_the_log_level(lane: Door, tmp_path: Path, log: StringIO) -> None:
    """From its own line on; what is broken changes nothing, and the metrics tell of it until it is mended."""
    path = tmp_path / "gateway.yaml"
    async with lane.stage() as stage:
        metrics = stage.gateway.runtime.metrics
        reloader = Reloader(str(path), stage.gateway.runtime, aside=at_once)
        shown = []
        for text in ("log_level: WARNING\n", "log_level: INFO\n", "log_level: loud\n", "log_level: INFO\n"):
            path.write_text(text)
            log.truncate(log.seek(0))
            await reloader.reload()
            shown.append(
                (value(metrics, "config_last_reload_successful"), "config reloaded" in log.getvalue())
            )
        assert shown == [(1, False), (1, True), (0, False), (1, True)]
        assert value(metrics, "config_reloads_total") == 3
        assert value(metrics, "config_reload_failures_total") == 1


@pytest.mark.parametrize("log", [True, False])
async def test_why_an_upstream_failed_is_told_once(log: bool, door: Door) -> None:
    """In the access line; where there is none, in a line of the gateway's own log."""
    async with door.stage(babbling) as stage:
        if not log:
            stage.gateway.runtime.access_log = None
        with capture_logs() as logs:
            assert (await stage.get("", "X-Request-ID: r1")).status == 502
            await trio.testing.wait_all_tasks_blocked()
        told = [line for line in logs if line["event"] == "upstream failed"]
        assert len(told) == (0 if log else 1)
        if told:
            assert (told[0]["endpoint"], told[0]["request_id"]) == ("users", b"r1")
            assert told[0]["cause"]
