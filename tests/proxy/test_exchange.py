"""One exchange: its deadline, why it ends, and when it may be sent again."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from tests.support.exchange import Made, in_flight
from trio_gateway.errors import (
    ClientGone,
    GatewayError,
    RequestTimeout,
    ShuttingDown,
    TotalTimeout,
    UpstreamStalled,
    UpstreamTimeout,
)
from trio_gateway.proxy.exchange import Body, Wait, may_replay

# ---- replay -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("untouched", [False, True])
@pytest.mark.parametrize("body", ["none", "whole", "part"])
@pytest.mark.parametrize("committed", [False, True])
def test_may_replay(method: str, untouched: bool, body: str, committed: bool, made: Made) -> None:
    """Head not committed, body whole, and idempotent or never written."""
    sent = b"ab" if body == "whole" else b"a"
    exchange = made(method, None if body == "none" else b"ab", b"" if body == "none" else sent)
    exchange.writer.committed = committed
    idempotent = method not in ("POST", "PATCH")
    expected = not committed and body != "part" and (untouched or idempotent)
    assert may_replay(exchange, untouched=untouched) is expected


# ---- the deadline -----------------------------------------------------------------------------------

WAITS: list[tuple[Wait, type[GatewayError]]] = [
    (Wait.UPSTREAM_HEAD, UpstreamTimeout),
    (Wait.CLIENT_BODY, RequestTimeout),
    (Wait.UPSTREAM_BODY, UpstreamStalled),
]


@pytest.mark.parametrize(("what", "error"), WAITS)
@pytest.mark.parametrize("latest", [math.inf, 7.0, 3.0])
async def test_the_deadline_that_passes_says_why(
    what: Wait, error: type[GatewayError], latest: float, made: Made, autojump_clock: trio.testing.MockClock
) -> None:
    """`timeouts.total` cuts every wait short, and is the reason then, but for the upstream's head."""
    exchange = made()
    exchange.latest = trio.current_time() + latest
    async with in_flight(exchange):
        exchange.wait_for(what, 5.0)
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(min(5.0, latest))
    expected = TotalTimeout if latest < 5 and what is not Wait.UPSTREAM_HEAD else error
    assert type(exchange.error) is expected


async def test_standing_still_leaves_the_total_alone(made: Made, autojump_clock: object) -> None:
    """While only the client keeps us waiting."""
    exchange = made()
    exchange.latest = 20.0
    async with in_flight(exchange):
        exchange.wait_for(Wait.UPSTREAM_HEAD, 5.0)
        exchange.stand_still()
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(20)
    assert isinstance(exchange.error, TotalTimeout)


async def test_the_first_reason_stands(made: Made, autojump_clock: object) -> None:
    """Whatever else wishes to end it later."""
    exchange = made()
    async with in_flight(exchange):
        exchange.cancel(ClientGone())
        exchange.cancel(ShuttingDown())
        await trio.sleep_forever()
    assert isinstance(exchange.error, ClientGone)


async def test_a_scope_around_it_is_no_reason(made: Made, autojump_clock: object) -> None:
    """Then whoever cancelled that scope knows."""
    exchange = made()
    with trio.CancelScope() as outer:
        async with in_flight(exchange):
            exchange.end_at(9)
            outer.cancel()
            await trio.sleep_forever()
    assert exchange.error is None


async def test_a_deadline_that_has_passed_stands(made: Made, autojump_clock: object) -> None:
    """Its cancellation is on its way, and the reason must be found as it was."""
    exchange = made()
    async with in_flight(exchange):
        exchange.wait_for(Wait.CLIENT_BODY, 5.0)
        exchange.end_at(trio.current_time())
        exchange.wait_for(Wait.UPSTREAM_HEAD, 5.0)
        await trio.sleep_forever()
    assert isinstance(exchange.error, RequestTimeout)


async def test_a_cancelled_exchange_waits_for_nothing_more(made: Made, autojump_clock: object) -> None:
    """What it was waiting for when it was cancelled is what an operator sees."""
    exchange = made()
    async with in_flight(exchange):
        exchange.wait_for(Wait.CLIENT_BODY, 5.0)
        exchange.cancel(ClientGone())
        exchange.wait_for(Wait.UPSTREAM_HEAD, 50.0)
        await trio.sleep_forever()
    assert (exchange.waiting, exchange.deadline) == (Wait.CLIENT_BODY, 5.0)


# ---- our own bodies ---------------------------------------------------------------------------------


async def test_a_body_of_our_own_is_read_once() -> None:
    """By taking or by reading; an empty one is done from the start."""
    assert Body().done
    body = Body(b"text")
    assert (body.done, body.take(), body.done) == (False, b"text", True)
    body = Body(b"text")
    assert (await body.read(), body.done) == (b"text", True)
    body.close()
