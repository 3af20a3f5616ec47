"""The health nursery in virtual time: when it asks, what flips and when, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import cycle, pairwise
from random import Random

import pytest
import structlog
import trio
import trio.testing

from tests.support.faults import fault, through
from tests.support.gateway import world
from tests.support.probing import RULES, Scripted, config, probing, since
from tests.support.upstream import Upstream, Wire
from trio_gateway.config.load import parse_config
from trio_gateway.proxy.network import MemoryNetwork

pytestmark = through("gateway")

# ---- when it asks ----------------------------------------------------------------------------------


async def test_checks_begin_every_interval(autojump_clock: trio.testing.MockClock) -> None:
    """From one beginning to the next, however long a check takes."""
    probe, start = Scripted(), trio.current_time()
    async with probing(config("a"), probe):
        await trio.sleep(35)
    assert since(start, probe.asked["a"]) == [0, 10, 20, 30]


async def test_a_check_longer_than_the_interval_is_followed_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Checks of one endpoint never overlap and never pile up."""
    probe, start = Scripted(a=cycle("H")), trio.current_time()
    async with probing(config("a", rules="interval: 4, timeout: 5, jitter: 0"), probe):
        await trio.sleep(17)
    assert since(start, probe.asked["a"]) == [0, 5, 10, 15]
    assert probe.at_once_most == 1


async def test_jitter_moves_each_check(autojump_clock: trio.testing.MockClock) -> None:
    """Distances lie within the jitter around the interval and differ from one another."""
    probe = Scripted()
    async with probing(config("a", rules="interval: 10, jitter: 10%"), probe, rng=Random(3)):
        await trio.sleep(500)
    gaps = [later - earlier for earlier, later in pairwise(probe.asked["a"])]
    assert 9 <= min(gaps) < max(gaps) <= 11
    assert len({round(gap, 3) for gap in gaps}) > 20


async def test_first_checks_are_spread(autojump_clock: trio.testing.MockClock) -> None:
    """Many endpoints begin within five seconds, and few together."""
    probe, start = Scripted(), trio.current_time()
    async with probing(config(*"abcdefghijklmnopqrstuvwxyz", rules="interval: 30"), probe, rng=Random(3)):
        await trio.sleep(5.05)
    first = [times[0] - start for times in probe.asked.values()]
    assert len(first) == 26
    assert {int(time) for time in first} >= {0, 1, 2, 3, 4}


async def test_the_first_check_comes_within_a_short_interval(autojump_clock: trio.testing.MockClock) -> None:
    """No endpoint waits longer for its first check than for any other."""
    probe = Scripted()
    async with probing(config("a", "b", "c", rules="interval: 500ms, jitter: 0"), probe, rng=Random(3)):
        await trio.sleep(0.5)
    assert set(probe.asked) == {"a", "b", "c"}


@pytest.mark.parametrize("out", ["a, disabled: true", "a, health_check: {enabled: false}"])
async def test_who_is_not_to_be_checked_is_not(out: str, autojump_clock: trio.testing.MockClock) -> None:
    """Neither a disabled endpoint nor one with `health_check.enabled: false` is asked, counted or shown."""
    probe = Scripted()
    async with probing(config(out, "b"), probe) as nursery:
        await trio.sleep(35)
        assert set(probe.asked) == set(nursery.prober.records) == {"b"}
        assert nursery.prober.summary().total_endpoints == 1


# ---- verdicts --------------------------------------------------------------------------------------


@fault("S5")
async def test_a_flapping_backend_flips_exactly_at_the_thresholds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Over real HTTP: unhealthy with the third failure in a row, healthy with the second pass in a row."""
    statuses = iter([500, 500, 200, 500, 500, 500, 500, 200, 500, 200, 302, 200, 500])

    async def flapping(wire: Wire) -> None:
        await wire.request()
        await wire.reply(status=b"%d Whatever" % next(statuses))

    network, start = MemoryNetwork(), trio.current_time()
    async with trio.open_nursery() as backends:
        await backends.start(Upstream(flapping).serve, network, "a.example", 80)
        async with probing(config("a, health_check_path: /health"), network=network) as nursery:
            seen = []
            for _ in range(13):
                await trio.sleep(5)
                seen.append(nursery.status())
                await trio.sleep(5)
        backends.cancel_scope.cancel()
    assert [(round(time - start, 6), status) for time, _, status in nursery.flips()] == [
        (50, "unhealthy"),
        (100, "active"),
    ]
    assert seen == ["active"] * 5 + ["unhealthy"] * 5 + ["active"] * 3


async def test_a_verdict_is_there_to_be_read(autojump_clock: trio.testing.MockClock) -> None:
    """Before the first check there is a record without times; then it says when, how long, why, how often."""
    probe = Scripted(a="FFP")
    async with probing(config("a"), probe) as nursery:
        await trio.testing.wait_all_tasks_blocked()
        records = nursery.prober.records
        assert (records["a"].status, records["a"].last_check_time) == ("active", None)
        began = trio.current_time()
        await trio.sleep(15)
        record = records["a"]
        assert record.last_check_time == datetime.fromtimestamp(began + 10, UTC)
        assert record.response_time == pytest.approx(0.5)
        assert (record.error_message, record.status) == ("it is down", "active")
        assert (record.consecutive_failures, record.consecutive_successes) == (2, 0)
        await trio.sleep(10)
        assert records["a"].error_message is None
        assert (records["a"].consecutive_failures, records["a"].consecutive_successes) == (0, 1)


@fault("S5")
async def test_a_hanging_backend_times_out_alone(autojump_clock: trio.testing.MockClock) -> None:
    """A check that gets no answer ends at its timeout; its neighbours keep their beat."""
    probe, start = Scripted(a=cycle("H")), trio.current_time()
    async with probing(config("a", "b"), probe) as nursery:
        await trio.sleep(35)
        assert nursery.prober.records["a"].error_message == "no answer within 4 s"
        assert nursery.prober.records["a"].response_time == pytest.approx(4)
        assert nursery.prober.records["a"].consecutive_failures == 4
        assert (nursery.status("a"), nursery.status("b")) == ("unhealthy", "active")
    assert since(start, [time for time, *_ in nursery.flips()]) == [24]
    assert since(start, probe.asked["b"]) == [0, 10, 20, 30]


@fault("S5")
async def test_a_breaking_probe_costs_nobody_else_anything(autojump_clock: trio.testing.MockClock) -> None:
    """It is logged, says nothing about the backend, and is tried again ever later until it works."""
    probe, start = Scripted(a="PBBBP"), trio.current_time()
    with structlog.testing.capture_logs() as lines:
        async with probing(config("a", "b"), probe) as nursery:
            await trio.sleep(175)
            assert nursery.status() == "active"
            assert nursery.prober.records["a"].consecutive_successes == 4
    assert since(start, probe.asked["a"]) == [0, 10, 30, 70, 150, 160, 170]
    assert since(start, probe.asked["b"]) == [10.0 * n for n in range(18)]
    assert [(line["event"], line["endpoint"]) for line in lines] == [("health check broke", "a")] * 3


async def test_flips_are_logged_and_counted(autojump_clock: trio.testing.MockClock) -> None:
    """One line and one event a flip, with the cause; every check is counted, and the gauge follows."""
    probe = Scripted(a="PFFHPP")
    with structlog.testing.capture_logs() as lines:
        async with probing(config("a"), probe) as nursery:
            await trio.sleep(35)
            stats = nursery.runtime.metrics.endpoint("a")
            assert (stats.healthy, stats.checks) == (False, {"passed": 1, "failed": 2, "timed_out": 1})
            assert stats.check_seconds == pytest.approx(3 * 0.5 + 4)
            await trio.sleep(20)
            assert stats.healthy is True
            causes = [event.cause for event in nursery.runtime.events.recent(kind="health")]
    assert causes == ["checks pass", "no answer within 4 s"]
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("endpoint unhealthy", "warning"),
        ("endpoint healthy", "info"),
    ]


async def test_below_the_panic_threshold_health_is_ignored(autojump_clock: trio.testing.MockClock) -> None:
    """The endpoint goes on serving, while its record and the event say that it is unhealthy."""
    rules = f"{RULES}, panic_threshold: 50"
    async with probing(config("a", rules=rules), Scripted(a=cycle("F"))) as nursery:
        await trio.sleep(55)
        assert nursery.status() == "active"
        assert nursery.prober.records["a"].status == "unhealthy"
        (event,) = nursery.runtime.events.recent(kind="health")
        assert event.details["ignored"] is True


async def test_a_panic_threshold_set_later_brings_it_back(autojump_clock: trio.testing.MockClock) -> None:
    """With the first check after the reload an unhealthy endpoint serves again."""
    async with probing(config("a"), Scripted(a=cycle("F"))) as nursery:
        await trio.sleep(25)
        assert nursery.status() == "unhealthy"
        await nursery.apply(config("a", rules=f"{RULES}, panic_threshold: 50"))
        assert nursery.status() == "unhealthy"
        await trio.sleep(1)
        assert nursery.status() == "active"


@pytest.mark.parametrize(("panic", "status"), [("", 503), (", panic_threshold: 50", 200)])
async def test_an_unhealthy_endpoint_answers_503(
    panic: str, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    """The gate asks no backend, unless the panic threshold says to ignore health."""
    text = f"""
server: {{bind: ["127.0.0.1:8000"]}}
health_check: {{{RULES}{panic}}}
endpoints: [{{url: "http://backend.example/", name: users, health_check_path: /health}}]
"""

    async def half_dead(wire: Wire) -> None:
        request = await wire.request()
        await wire.reply(status=b"500 Dead" if request.target == b"/health" else b"200 OK")

    async with world(text, half_dead) as gateway:
        gateway.gateway.runtime.apply(parse_config(text, "test.yaml", {}).require())
        await trio.sleep(19)
        assert (await gateway.get("/orchestrator/users")).status == 200
        await trio.sleep(7)
        answer = await gateway.get("/orchestrator/users")
        assert answer.status == status
        assert (b"Endpoint is unhealthy" in answer.body) is (status == 503)
