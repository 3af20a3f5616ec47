"""Policies around the attempt: what the breaker hears of each end, and what is kept for later."""

from __future__ import annotations

import contextlib

import pytest
import trio

from tests.support.exchange import Made, in_flight
from trio_gateway.config.model import CircuitBreakerConfig, FallbackCacheConfig
from trio_gateway.domain.breaker import CircuitBreaker, State
from trio_gateway.domain.cache import FallbackCache
from trio_gateway.domain.outcome import FailureRule, Outcome
from trio_gateway.errors import (
    BadRequest,
    CircuitOpen,
    ClientGone,
    ConnectFailed,
    GatewayError,
    PayloadTooLarge,
    RequestTimeout,
    ShuttingDown,
    TotalTimeout,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamTruncated,
)
from trio_gateway.proxy.exchange import Body, Exchange, Handler, Reply, Wait
from trio_gateway.proxy.layers import fallback_of, guarded, recorded

CONFIG = CircuitBreakerConfig(failure_threshold=2, reset_timeout=10.0, half_open_max_calls=1)
CACHED = CircuitBreakerConfig(failure_threshold=1, fallback_strategy="cached_response")


class Guarded:
    """A handler under a breaker."""

    def __init__(self, handler: Handler, config: CircuitBreakerConfig = CONFIG) -> None:
        self.breaker = CircuitBreaker(config, trio.current_time(), lambda _: None)
        self.cache = FallbackCache(FallbackCacheConfig())
        fallback = fallback_of("users", config, self.breaker, self.cache)
        self.rule = FailureRule.of(config.failure_on)
        self.handler = guarded(recorded(handler, self.cache), self.breaker, self.rule, fallback)

    async def __call__(self, exchange: Exchange) -> Reply:
        """One exchange under a scope of its own."""
        exchange.started = trio.current_time()
        async with in_flight(exchange):
            return await self.handler(exchange)
        raise exchange.error or ShuttingDown()


def answering(status: int) -> Handler:
    async def handler(exchange: Exchange) -> Reply:
        return Reply(status, [], Body(b"ok"), 2)

    return handler


def failing(error: BaseException) -> Handler:
    async def handler(exchange: Exchange) -> Reply:
        raise error

    return handler


def cancelled(error: GatewayError) -> Handler:
    async def handler(exchange: Exchange) -> Reply:
        exchange.cancel(error)
        await trio.sleep_forever()

    return handler


def waiting(what: Wait) -> Handler:
    async def handler(exchange: Exchange) -> Reply:
        exchange.wait_for(what, 5)
        await trio.sleep_forever()

    return handler


@pytest.mark.parametrize(
    ("handler", "failures"),
    [
        (answering(200), 0),
        (answering(404), 0),
        (answering(500), 0),
        (answering(502), 1),
        (answering(503), 1),
        (answering(504), 1),
        (failing(ConnectFailed()), 1),
        (failing(UpstreamReset()), 1),
        (failing(UpstreamTimeout()), 1),
        (failing(BadRequest()), 0),
        (failing(PayloadTooLarge()), 0),
        (failing(ZeroDivisionError()), 0),
        (cancelled(ClientGone()), 0),
        (cancelled(ShuttingDown()), 0),
        (cancelled(RequestTimeout()), 0),
        (cancelled(TotalTimeout()), 0),
        (waiting(Wait.UPSTREAM_HEAD), 1),
        (waiting(Wait.CLIENT_BODY), 0),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("probing", [False, True])
async def test_each_end_settles_the_permit_once(
    handler: Handler, failures: int, probing: bool, made: Made, autojump_clock: object
) -> None:
    """Only the upstream's doing counts, and a half-open place always comes back."""
    guard = Guarded(handler)
    if probing:
        for _ in range(2):
            permit = guard.breaker.admit(trio.current_time())
            assert permit is not None
            permit.settle(Outcome.FAILED, trio.current_time())
        await trio.sleep(10)
    before = guard.breaker.failure_count
    with contextlib.suppress(GatewayError, ZeroDivisionError):
        await guard(made())
    assert guard.breaker.half_open_calls == 0
    if probing:
        healed = handler.__qualname__.startswith("answering") and not failures
        expected = State.CLOSED if healed else State.OPEN if failures else State.HALF_OPEN
        assert guard.breaker.state is expected
    else:
        assert guard.breaker.failure_count - before == failures


async def test_an_open_breaker_answers_without_the_handler(made: Made, autojump_clock: object) -> None:
    """Until its time is over; then one probe decides."""
    calls = 0

    async def handler(exchange: Exchange) -> Reply:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise ConnectFailed
        return Reply(200, [], Body(b"ok"), 2)

    guard = Guarded(handler)
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await guard(made())
    with pytest.raises(CircuitOpen):
        await guard(made())
    assert calls == 2
    await trio.sleep(10)
    assert (await guard(made())).status == 200
    assert guard.breaker.state is State.CLOSED


async def test_a_reply_that_breaks_off_is_one_more_failure(made: Made, autojump_clock: object) -> None:
    """Behind a head that had settled well."""
    guard = Guarded(answering(200))
    exchange = made()
    await guard(exchange)
    assert exchange.permit is not None
    exchange.permit.late_failure(trio.current_time())
    exchange.permit.late_failure(trio.current_time())
    assert guard.breaker.failure_count == 1


# ---- recorded ---------------------------------------------------------------------------------------


class Pieces:
    """A reply body in pieces; with `cut` it breaks off behind them."""

    def __init__(self, *pieces: bytes, cut: bool = False) -> None:
        self._pieces = list(pieces)
        self._cut = cut
        self.done = False
        self.closed = False
        self.trailers: list[tuple[bytes, bytes]] = [(b"x", b"y")]

    def take(self) -> bytes | None:
        """None now and then: reading has to wait."""
        return None

    async def read(self) -> bytes:
        """The next piece."""
        if not self._pieces and self._cut:
            raise UpstreamTruncated
        piece = self._pieces.pop(0)
        self.done = not self._pieces and not self._cut
        return piece

    def close(self) -> None:
        """Noted."""
        self.closed = True


async def read_all(reply: Reply) -> bytes:
    data = b""
    while not reply.body.done:
        piece = reply.body.take()
        data += piece if piece is not None else await reply.body.read()
    return data


@pytest.mark.parametrize("whole", [True, False])
async def test_only_a_whole_reply_is_kept(whole: bool, made: Made, autojump_clock: object) -> None:
    """It passes piece by piece meanwhile, trailers and all."""

    async def handler(exchange: Exchange) -> Reply:
        return Reply(200, [(b"X-A", b"1")], Pieces(b"a", b"b", b"c", cut=not whole))

    guard = Guarded(handler, CACHED)
    reply = await guard(made())
    if whole:
        assert await read_all(reply) == b"abc"
        assert reply.body.trailers == [(b"x", b"y")]
    else:
        with pytest.raises(UpstreamTruncated):
            await read_all(reply)
    guard.breaker.trip(trio.current_time())
    if whole:
        kept = await guard(made())
        assert (kept.status, await read_all(kept)) == (200, b"abc")
        assert (b"X-Circuit-Breaker", b"fallback") in kept.headers
    else:
        with pytest.raises(CircuitOpen):
            await guard(made())


async def test_a_recorded_body_closes_what_it_records(made: Made) -> None:
    """The connection behind it is let go through it."""
    pieces = Pieces(b"a")

    async def handler(exchange: Exchange) -> Reply:
        return Reply(200, [], pieces)

    reply = await Guarded(handler, CACHED)(made())
    reply.body.close()
    assert pieces.closed
