"""The checks of `demo --check`: they must be able to fail. That they succeed is shown in e2e."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import trio.testing

from trio_gateway.config.load import parse_config
from trio_gateway.demo.checks import (
    CHECKS,
    Check,
    Finding,
    NotShown,
    events_one_by_one,
    expect,
    path_and_query,
    run_checks,
    streamed_post,
    timeout_is_504,
    until,
)
from trio_gateway.demo.stage import Stage, Temper, open_stage


async def findings(stage: Stage, checks: dict[str, Check]) -> list[Finding]:
    """All that the checks found."""
    async with aclosing(run_checks(stage, checks)) as found:
        return [finding async for finding in found]


def client_of(handler: Callable[..., Any]) -> httpx.AsyncClient:
    """A client whose gateway is a function."""
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


def spoilt_reply(request: httpx.Request) -> httpx.Response:
    """What a gateway might answer that does everything wrong."""
    if "events" in str(request.url):
        return httpx.Response(200, text='data: {"at": 0}\n\n')
    return httpx.Response(200, json={"target": "/api/42", "body": {"sha256": "0"}})


@pytest.mark.parametrize("check", [path_and_query, events_one_by_one, timeout_is_504])
async def test_a_gateway_that_does_it_wrong_is_found_out(check: Check) -> None:
    """A reply that shows something else is no showing."""
    async with open_stage("127.0.0.1:0", Temper()) as stage, client_of(spoilt_reply) as client:
        with pytest.raises(NotShown):
            await check(stage, client)


async def test_an_upload_that_is_held_back_is_found_out() -> None:
    """A gateway that sends nothing before it has all is no streaming gateway."""

    async def hoarding(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return httpx.Response(200, json={})

    async with open_stage("127.0.0.1:0", Temper()) as stage, client_of(hoarding) as client:
        with pytest.raises(NotShown, match="nothing arrived"):
            await streamed_post(stage, client)


async def test_every_check_tells_its_failure_in_a_sentence() -> None:
    """A check that fails, hangs up or can't connect is a finding, and the next one runs."""

    async def refused(stage: Stage, client: httpx.AsyncClient) -> str:
        return str(await client.get("http://127.0.0.1:1/"))

    async def unexpected(stage: Stage, client: httpx.AsyncClient) -> str:
        raise NotShown("something else came")

    async def fine(stage: Stage, client: httpx.AsyncClient) -> str:
        return "as it should be"

    async with open_stage("127.0.0.1:0", Temper()) as stage:
        found = await findings(stage, {"one": refused, "two": unexpected, "three": fine})
    assert [finding.shown for finding in found] == [False, False, True]
    assert [finding.sentence for finding in found[1:]] == ["something else came", "as it should be"]
    assert found[0].sentence


async def test_a_breaker_that_stays_shut_is_found_out() -> None:
    """With more patience than the check has failures, the breaker never opens."""
    async with open_stage("127.0.0.1:0", Temper(failures=3)) as stage:
        stage.temper = Temper(failures=1)
        (finding,) = await findings(stage, {"breaker": CHECKS["circuit breaker"]})
    assert not finding.shown
    assert "broken on purpose" in finding.sentence


async def test_a_gateway_without_websockets_is_found_out() -> None:
    """A refusal is told as what it is."""
    async with open_stage("127.0.0.1:0", Temper()) as stage:
        text = stage.config_text + "websocket: {enabled: false}\n"
        stage.gateway.runtime.apply(parse_config(text, "demo.yaml", {}).require())
        (finding,) = await findings(stage, {"WebSocket": CHECKS["WebSocket"]})
    assert not finding.shown
    assert "403" in finding.sentence


def test_an_expectation_says_what_came_instead() -> None:
    """The sentence of a failure is the caller's."""
    expect(True, "unused")
    with pytest.raises(NotShown, match="it was blue"):
        expect(False, "it was blue")


@pytest.mark.parametrize(("after", "shown"), [(0.5, True), (2.0, False)])
async def test_waiting_for_a_condition_has_an_end(
    after: float, shown: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """`until` returns how long it took, or gives up after its second."""
    began = trio.current_time()
    condition: Callable[[], bool] = lambda: trio.current_time() - began >= after  # noqa: E731
    if shown:
        assert 0.5 <= await until(condition, "never") < 0.6
    else:
        with pytest.raises(NotShown, match="never"):
            await until(condition, "never")
