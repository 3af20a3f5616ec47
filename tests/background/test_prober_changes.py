"""The health nursery in virtual time: checks on request, words of operators, and changes of the config."""

from __future__ import annotations

from itertools import cycle
from string import ascii_letters

import pytest
import trio
import trio.testing

from tests.support.probing import AtOnce, Scripted, config, probing, since
from trio_gateway.background.dial import ProbeFailed
from trio_gateway.background.prober import Prober
from trio_gateway.domain.health import Check
from trio_gateway.domain.registry import EndpointNotFound
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime

# ---- asked for -------------------------------------------------------------------------------------


async def test_a_check_on_request_comes_at_once_and_counts(autojump_clock: trio.testing.MockClock) -> None:
    """It is a verdict as any other, and the schedule stays as it is."""
    probe, start = Scripted(a="PFFFP"), trio.current_time()
    async with probing(config("a"), probe) as nursery:
        await trio.sleep(12)
        for expected in ("active", "unhealthy"):
            record = await nursery.prober.check("a")
            assert (record.status, nursery.status()) == (expected, expected)
        assert nursery.prober.records["a"] == record
        await trio.sleep(12)
    assert since(start, probe.asked["a"]) == [0, 10, 12, 12.5, 20]


async def test_checks_of_one_endpoint_wait_for_one_another(autojump_clock: trio.testing.MockClock) -> None:
    """However many ask at once: one probe at a time, and each gets a verdict that began after it asked."""
    probe, start = Scripted(), trio.current_time()
    async with probing(config("a"), probe) as nursery:
        await trio.sleep(5)
        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(nursery.prober.check, "a")
    assert since(start, probe.asked["a"]) == [0, 5, 5.5, 6]
    assert probe.at_once_most == 1


async def test_who_asks_and_leaves_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled check counts for nobody and keeps nobody waiting."""
    async with probing(config("a"), Scripted(a="PFP")) as nursery:
        await trio.sleep(5)
        before = nursery.prober.records["a"]
        with trio.move_on_after(0.2):
            await nursery.prober.check("a")
        assert nursery.prober.records["a"] == before
        assert (await nursery.prober.check("a")).consecutive_successes == 2


@pytest.mark.parametrize("out", ["a, disabled: true", "a, health_check: {enabled: false}"])
async def test_who_is_not_watched_can_be_asked(out: str, autojump_clock: trio.testing.MockClock) -> None:
    """The answer is told and nothing else: no status changes and no record stays."""
    async with probing(config(out), Scripted(a=cycle("F"))) as nursery:
        before = nursery.status()
        for _ in range(4):
            record = await nursery.prober.check("a")
        assert (record.error_message, nursery.status()) == ("it is down", before)
        assert nursery.prober.records == {}
        assert nursery.runtime.metrics.endpoint("a").healthy is None


async def test_who_is_not_there_cannot_be_asked(autojump_clock: trio.testing.MockClock) -> None:
    """An unknown id is an error that names it."""
    async with probing(config("a"), Scripted()) as nursery:
        with pytest.raises(EndpointNotFound, match="Endpoint not found: b"):
            await nursery.prober.check("b")


# ---- operators -------------------------------------------------------------------------------------


async def test_an_operator_says_unhealthy_until_checks_pass(autojump_clock: trio.testing.MockClock) -> None:
    """The word holds until the healthy threshold is reached, counted from it."""
    async with probing(config("a"), Scripted()) as nursery:
        await trio.sleep(35)
        await nursery.set_status("a", "unhealthy")
        assert nursery.prober.records["a"].status == "unhealthy"
        assert nursery.prober.records["a"].consecutive_successes == 0
        await trio.sleep(10)
        assert nursery.status() == "unhealthy"
        await trio.sleep(10)
        assert nursery.status() == "active"


async def test_an_operator_says_active_and_the_count_starts_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A dead endpoint that was declared active serves until three more checks fail."""
    start = trio.current_time()
    async with probing(config("a"), Scripted(a=cycle("F"))) as nursery:
        await trio.sleep(55)
        await nursery.set_status("a", "active")
        await trio.sleep(40)
    assert since(start, [time for time, *_ in nursery.flips()]) == [20.5, 80.5]


async def test_out_of_service_stops_checks_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """Disabled, the endpoint is asked no more, even where a check was under way; back, it begins anew."""
    probe, start = Scripted(a="PH"), trio.current_time()
    async with probing(config("a"), probe) as nursery:
        await trio.sleep(11)
        await nursery.set_status("a", "disabled")
        assert probe.at_once == 0
        assert nursery.prober.records == {}
        assert nursery.runtime.metrics.endpoint("a").healthy is None
        await trio.sleep(30)
        await nursery.set_status("a", "active")
        await trio.sleep(15)
    assert since(start, probe.asked["a"]) == [0, 10, 41, 51]


async def test_inactive_is_checked_and_stays_inactive(autojump_clock: trio.testing.MockClock) -> None:
    """Its health is there to be read, but its status is the operator's."""
    async with probing(config("a"), Scripted(a=cycle("F"))) as nursery:
        await trio.sleep(1)
        await nursery.set_status("a", "inactive")
        await trio.sleep(40)
        assert (nursery.status(), nursery.prober.records["a"].status) == ("inactive", "unhealthy")


# ---- the config changes ----------------------------------------------------------------------------


async def test_a_reload_touches_only_what_changed(autojump_clock: trio.testing.MockClock) -> None:
    """Unchanged checks keep beat and counts, changed ones begin anew, new ones start, others go."""
    probe, start = Scripted(a=cycle("F")), trio.current_time()
    async with probing(config("a", "b", "c"), probe) as nursery:
        await trio.sleep(17)
        await nursery.apply(config("a, timeout: 3", "b, health_check_path: /new", "d"))
        assert nursery.prober.records["a"].consecutive_failures == 2
        assert nursery.prober.records["b"].last_check_time is None
        assert set(nursery.prober.records) == {"a", "b", "d"}
        await trio.sleep(17)
    assert since(start, probe.asked["a"]) == [0, 10, 20, 30]
    assert since(start, probe.asked["b"]) == [0, 10, 17, 27]
    assert since(start, probe.asked["c"]) == [0, 10]
    assert since(start, probe.asked["d"]) == [17, 27]


async def test_a_removed_endpoint_is_gone_in_the_middle_of_its_check(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The check ends at once, and no record or metric of it comes back."""
    probe = Scripted(a=cycle("H"))
    async with probing(config("a", "b"), probe) as nursery:
        await trio.sleep(1)
        await nursery.apply(config("b"))
        assert probe.at_once == 0
        assert set(nursery.prober.records) == set(nursery.runtime.metrics.endpoints()) == {"b"}


async def test_a_check_whose_endpoint_goes_meanwhile_is_only_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who asked gets an answer; it counts for nothing that is there now."""
    async with probing(config("a"), Scripted(a="PF")) as nursery:
        await trio.sleep(5)
        async with trio.open_nursery() as callers:
            callers.start_soon(nursery.prober.check, "a")
            await trio.testing.wait_all_tasks_blocked()
            await nursery.apply(config("b"))
        assert "a" not in nursery.prober.records
        assert "a" not in nursery.runtime.metrics.endpoints()


async def test_an_unhealthy_endpoint_is_still_so_after_a_change_of_its_check(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """New rules begin with the status that stands, and count from zero."""
    async with probing(config("a"), Scripted(a="FFFP")) as nursery:
        await trio.sleep(25)
        await nursery.apply(config("a", rules="interval: 10, jitter: 0, healthy_threshold: 1"))
        assert nursery.prober.records["a"].status == "unhealthy"
        await trio.sleep(1)
        assert nursery.status() == "active"


async def test_it_ends_and_begins_again(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelled, nothing is under watch and swaps are nothing to it; run again, it starts from the plan."""
    probe = Scripted()
    async with probing(config("a"), probe) as nursery:
        await trio.sleep(1)
    prober = nursery.prober
    assert (prober.records, nursery.runtime.metrics.endpoint("a").healthy) == ({}, None)
    nursery.runtime.apply(config("a", "b"))
    assert prober.records == {}
    with trio.move_on_after(1):
        await prober.run()
    assert len(probe.asked["a"]) == 2
    assert len(probe.asked["b"]) == 1


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_verdict_on_what_has_just_gone_is_dropped(
    turns: int, autojump_clock: trio.testing.MockClock
) -> None:
    """A change in the very moment in which a check ends leaves no record and no metric behind."""
    runtime = Runtime(MemoryNetwork())
    runtime.apply(config("a"))

    async def removing(check: Check) -> None:
        if check.endpoint_id == "a":
            runtime.apply(config("b"))
            for _ in range(turns):
                await trio.lowlevel.cancel_shielded_checkpoint()

    prober = Prober(runtime, rng=AtOnce(), probes={"http": removing})
    with trio.move_on_after(1):
        await prober.run()
    assert set(runtime.metrics.endpoints()) == {"b"}
    assert runtime.metrics.endpoint("b").checks == {"passed": 1}


async def test_an_operators_word_in_the_moment_of_a_verdict_comes_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The verdict counts from the word on, and does not undo it."""
    runtime = Runtime(MemoryNetwork())
    runtime.apply(config("a"))
    failed = 0

    async def failing(check: Check) -> None:
        nonlocal failed
        failed += 1
        if failed == 4:
            runtime.set_status("a", "active")
        raise ProbeFailed("it is down")

    prober = Prober(runtime, rng=AtOnce(), probes={"http": failing})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prober.run)
        await trio.sleep(25)
        assert runtime.registry.get("a").status == "unhealthy"
        await trio.sleep(10)
        assert runtime.registry.get("a").status == "active"
        assert prober.records["a"].consecutive_failures == 1
        nursery.cancel_scope.cancel()


async def test_a_change_while_many_endpoints_start_is_followed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Starting many takes several turns; what goes between two of them never comes."""
    runtime = Runtime(MemoryNetwork())
    runtime.apply(config(*ascii_letters))
    probe = Scripted()
    prober = Prober(runtime, probes={"http": probe})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prober.run)
        while not prober.records:
            await trio.lowlevel.checkpoint()
        assert len(prober.records) < len(ascii_letters)
        runtime.apply(config("b"))
        await trio.testing.wait_all_tasks_blocked()
        assert set(prober.records) == set(runtime.metrics.endpoints()) == {"b"}
        nursery.cancel_scope.cancel()
