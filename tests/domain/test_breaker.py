"""The circuit breaker: a walk through its table, all pairs of state and event, and each promise."""

from __future__ import annotations

from itertools import pairwise, product
from math import inf
from typing import Any, NamedTuple

import pytest

from trio_gateway.config.model import CircuitBreakerConfig, OpenBackoff, SlidingWindow
from trio_gateway.domain.breaker import (
    TRANSITIONS,
    CircuitBreaker,
    Event,
    IllegalEvent,
    Permit,
    State,
    Transition,
)
from trio_gateway.domain.outcome import Outcome

OK, FAILED, TIMED_OUT, ABANDONED = Outcome
CLOSED, OPEN, HALF_OPEN = State

WAYS = {
    CLOSED: [],
    OPEN: [Event.TRIP],
    HALF_OPEN: [Event.FAILURES, Event.WAIT_OVER],
}


class Recorded(NamedTuple):
    breaker: CircuitBreaker
    changes: list[Transition]


def recorded(**config: Any) -> Recorded:
    changes: list[Transition] = []
    return Recorded(CircuitBreaker(CircuitBreakerConfig(**config), 0.0, changes.append), changes)


def in_state(state: State) -> Recorded:
    made = recorded()
    for event in WAYS[state]:
        made.breaker.apply(event, 0.0, "test")
    made.changes.clear()
    return made


def admitted(breaker: CircuitBreaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert permit is not None
    return permit


def call(breaker: CircuitBreaker, outcome: Outcome, now: float = 0.0, duration: float = 0.0) -> None:
    admitted(breaker, now).settle(outcome, now, duration)


def half_open(**config: Any) -> Recorded:
    """A breaker whose endpoint failed at 0 and whose trial begins at 60."""
    made = recorded(failure_threshold=1, **config)
    call(made.breaker, FAILED)
    made.breaker.expire(60.0)
    assert made.breaker.state is HALF_OPEN
    return made


# ---- the table ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_is_a_transition_or_an_error(state: State, event: Event) -> None:
    """What the table lists happens and is told once; what it does not list raises and changes nothing."""
    breaker, changes = in_state(state)
    expected = TRANSITIONS.get((state, event))
    generation = breaker.generation
    if expected is None:
        with pytest.raises(IllegalEvent, match=f"{event.value} while {state.value}"):
            breaker.apply(event, 5.0, "because")
        assert (breaker.state, breaker.generation, breaker.state_changed_time) == (state, generation, 0.0)
        assert changes == []
    else:
        breaker.apply(event, 5.0, "because")
        assert (breaker.state, breaker.generation) == (expected, generation + 1)
        assert changes == [Transition(5.0, state, expected, "because")]


def test_a_life_through_the_whole_table() -> None:
    """Failure, wait, failed probe, longer wait, good probe, trip, reset: each step with its cause."""
    breaker, changes = recorded(failure_threshold=2, open_backoff=OpenBackoff(multiplier=2.0))
    call(breaker, FAILED, 1.0)
    call(breaker, TIMED_OUT, 2.0)
    call(breaker, FAILED, 62.0)
    call(breaker, OK, 182.0)
    breaker.trip(200.0)
    breaker.reset(300.0, "operator alice")
    assert changes == [
        Transition(2.0, CLOSED, OPEN, "failures in a row: 2"),
        Transition(62.0, OPEN, HALF_OPEN, "wait over"),
        Transition(62.0, HALF_OPEN, OPEN, "probe failed"),
        Transition(182.0, OPEN, HALF_OPEN, "wait over"),
        Transition(182.0, HALF_OPEN, CLOSED, "probes succeeded: 1"),
        Transition(200.0, CLOSED, OPEN, "operator"),
        Transition(300.0, OPEN, CLOSED, "operator alice"),
    ]


# ---- closed ------------------------------------------------------------------------------------------


def test_only_failures_in_a_row_count() -> None:
    """A success in between starts the count again."""
    breaker, changes = recorded(failure_threshold=3)
    for outcome in (FAILED, TIMED_OUT, OK, FAILED, FAILED):
        call(breaker, outcome)
    assert (breaker.failure_count, changes) == (2, [])
    call(breaker, FAILED)
    assert breaker.state is OPEN


def test_abandoned_calls_count_for_nobody() -> None:
    """An abandoned call is neither a failure nor a success."""
    breaker, _ = recorded(failure_threshold=2)
    for outcome in (FAILED, ABANDONED, ABANDONED):
        call(breaker, outcome, 3.0)
    assert (breaker.failure_count, breaker.last_failure_time, breaker.last_success_time) == (1, 3.0, None)


def test_the_first_settling_wins() -> None:
    """Settling a permit again changes nothing."""
    breaker, _ = recorded()
    permit = admitted(breaker, 0.0)
    permit.settle(OK, 1.0)
    permit.settle(FAILED, 2.0)
    assert (breaker.failure_count, breaker.last_failure_time, breaker.last_success_time) == (0, None, 1.0)


def test_a_reply_that_breaks_off_is_one_more_failure() -> None:
    """A reset in the body counts once, although the head was a success."""
    breaker, _ = recorded()
    permit = admitted(breaker, 0.0)
    permit.settle(OK, 1.0)
    permit.late_failure(2.0)
    permit.late_failure(3.0)
    assert (breaker.failure_count, breaker.last_failure_time) == (1, 2.0)


@pytest.mark.parametrize("outcome", [None, ABANDONED])
def test_no_late_failure_without_a_result(outcome: Outcome | None) -> None:
    """A permit that was abandoned, or never settled, has no reply that could break off."""
    breaker, _ = recorded()
    permit = admitted(breaker, 0.0)
    if outcome is not None:
        permit.settle(outcome, 1.0)
    permit.late_failure(2.0)
    assert breaker.failure_count == 0


def test_results_of_an_older_generation_are_ignored() -> None:
    """A request from before an outage can't close, open or count anything after it."""
    breaker, changes = recorded(failure_threshold=1)
    old = [admitted(breaker, 0.0) for _ in range(4)]
    late = admitted(breaker, 0.0)
    late.settle(OK, 0.0)
    old[0].settle(FAILED, 1.0)
    old[1].settle(OK, 2.0)
    breaker.expire(61.0)
    old[2].settle(FAILED, 62.0)
    late.late_failure(62.0)
    call(breaker, OK, 63.0)
    old[3].settle(FAILED, 64.0)
    assert [change.to_state for change in changes] == [OPEN, HALF_OPEN, CLOSED]
    assert (breaker.failure_count, breaker.last_failure_time) == (0, 1.0)


# ---- rate mode ---------------------------------------------------------------------------------------


def rate_mode(**config: Any) -> Recorded:
    return recorded(**{"failure_threshold": 100, "failure_rate_threshold": 50.0, **config})


def test_the_failure_rate_opens_once_there_are_enough_calls() -> None:
    """Half of the calls failing opens it with the minimum of calls, not before."""
    breaker, changes = rate_mode(minimum_number_of_calls=4)
    for outcome in (FAILED, OK, FAILED):
        call(breaker, outcome)
    assert breaker.state is CLOSED
    call(breaker, OK)
    assert [change.cause for change in changes] == ["failure rate 50% of 4 calls"]


def test_slow_calls_open_in_rate_mode() -> None:
    """Successes that take too long open it, by their own threshold."""
    breaker, changes = rate_mode(
        minimum_number_of_calls=3, slow_call_duration_threshold=1.0, slow_call_rate_threshold=60.0
    )
    for duration in (1.0, 1.1, 1.2):
        assert breaker.state is CLOSED
        call(breaker, OK, 0.0, duration)
    assert [change.cause for change in changes] == ["slow call rate 67% of 3 calls"]


def test_slow_calls_do_not_count_in_consecutive_mode() -> None:
    """Without a failure rate threshold, slowness is nobody's failure."""
    breaker, changes = recorded(slow_call_duration_threshold=1.0, slow_call_rate_threshold=1.0)
    for _ in range(200):
        call(breaker, OK, 0.0, 100.0)
    assert changes == []


def test_a_window_smaller_than_the_minimum_is_judged_when_full() -> None:
    """A count window of 5 with a minimum of 20 calls opens after 5."""
    breaker, _ = rate_mode(sliding_window=SlidingWindow(size=5))
    for outcome in (FAILED, OK, FAILED, OK):
        call(breaker, outcome)
    assert breaker.state is CLOSED
    call(breaker, FAILED)
    assert breaker.state is OPEN


def test_rate_mode_keeps_the_consecutive_rule() -> None:
    """Either rule trips: failures in a row open it before the window is judged."""
    breaker, changes = rate_mode(failure_threshold=2)
    call(breaker, FAILED)
    call(breaker, FAILED)
    assert [change.cause for change in changes] == ["failures in a row: 2"]


def test_closing_forgets_the_window() -> None:
    """After a recovery the calls of the outage are not counted again."""
    breaker, _ = rate_mode(minimum_number_of_calls=2)
    call(breaker, FAILED)
    call(breaker, FAILED)
    for outcome in (OK, OK, OK, FAILED):
        call(breaker, outcome, 60.0)
    assert breaker.state is CLOSED


# ---- open --------------------------------------------------------------------------------------------


def test_open_admits_nothing_until_the_wait_is_over() -> None:
    """Refused until `reset_timeout`, admitted from then on."""
    breaker, _ = recorded(failure_threshold=1, reset_timeout=10.0)
    call(breaker, FAILED, 5.0)
    assert breaker.admit(5.0) is None
    assert breaker.admit(14.99) is None
    assert breaker.admit(15.0) is not None


def test_retry_after_counts_down() -> None:
    """It is the rest of the wait, zero when a try may succeed, and endless while held open by hand."""
    breaker, _ = recorded(failure_threshold=1, reset_timeout=10.0)
    assert breaker.retry_after(5.0) == 0.0
    call(breaker, FAILED, 5.0)
    assert breaker.retry_after(7.5) == 7.5
    assert breaker.retry_after(15.0) == 0.0
    breaker.trip(16.0)
    assert breaker.retry_after(17.0) == inf


def test_each_reopening_waits_longer_up_to_a_limit() -> None:
    """Waits grow by the multiplier, stop at the maximum, and start again after a recovery."""
    breaker, changes = recorded(
        failure_threshold=1, reset_timeout=10.0, open_backoff=OpenBackoff(multiplier=3.0, max=50.0)
    )
    now = 0.0
    for outcome in (FAILED, FAILED, FAILED, FAILED, OK, FAILED):
        call(breaker, outcome, now)
        now += breaker.retry_after(now)
    opened = [change.time for change in changes if change.to_state is OPEN]
    assert [later - earlier for earlier, later in pairwise([*opened, now])] == [10.0, 30.0, 50.0, 50.0, 10.0]


def test_the_limit_never_shortens_the_first_wait() -> None:
    """A `reset_timeout` above the backoff's maximum is kept when it reopens."""
    breaker, _ = recorded(failure_threshold=1, reset_timeout=600.0, open_backoff=OpenBackoff(2.0, max=300.0))
    call(breaker, FAILED)
    call(breaker, FAILED, 600.0)
    assert breaker.retry_after(600.0) == 600.0


@pytest.mark.parametrize("state", State)
def test_a_manual_trip_holds_until_reset(state: State) -> None:
    """From any state, no time and no late result ends a trip; a reset does."""
    breaker, _ = in_state(state)
    permit = breaker.admit(0.0)
    breaker.trip(0.0)
    if permit is not None:
        permit.settle(OK, 1.0)
    assert breaker.admit(1e9) is None
    breaker.reset(1e9)
    assert breaker.admit(1e9) is not None


def test_reset_forgets_failures() -> None:
    """After a reset the count starts at zero, even when it was closed all the time."""
    breaker, changes = recorded(failure_threshold=2)
    call(breaker, FAILED)
    breaker.reset(1.0)
    call(breaker, FAILED)
    assert breaker.state is CLOSED
    assert changes == [Transition(1.0, CLOSED, CLOSED, "operator")]


# ---- half open ---------------------------------------------------------------------------------------


def test_exactly_so_many_probes_at_once() -> None:
    """Of a hundred requests at the same moment, `half_open_max_calls` are admitted."""
    breaker, _ = half_open(half_open_max_calls=3)
    assert sum(breaker.admit(60.0) is not None for _ in range(100)) == 3
    assert breaker.half_open_calls == 3


def test_an_abandoned_probe_gives_its_place_back() -> None:
    """Cancelled probes neither close nor reopen it, and block nobody."""
    breaker, _ = half_open(half_open_max_calls=1)
    for _ in range(5):
        permit = admitted(breaker, 60.0)
        assert breaker.admit(60.0) is None
        permit.settle(ABANDONED, 60.0)
    assert (breaker.state, breaker.half_open_calls) == (HALF_OPEN, 0)


def test_so_many_successes_close_it() -> None:
    """`half_open_successes` may be more than fit at once: places are used again."""
    breaker, _ = half_open(half_open_max_calls=1, half_open_successes=3)
    for _ in range(2):
        call(breaker, OK, 61.0)
        assert breaker.state is HALF_OPEN
    call(breaker, OK, 62.0)
    assert (breaker.state, breaker.last_success_time) == (CLOSED, 62.0)


@pytest.mark.parametrize(("outcome", "cause"), [(FAILED, "probe failed"), (TIMED_OUT, "probe timed out")])
def test_one_failed_probe_reopens(outcome: Outcome, cause: str) -> None:
    """The first failure reopens it, and what the other probes say later is not heard."""
    breaker, changes = half_open(half_open_max_calls=2)
    first, second = admitted(breaker, 60.0), admitted(breaker, 60.0)
    first.settle(outcome, 61.0)
    second.settle(OK, 62.0)
    assert changes[-1] == Transition(61.0, HALF_OPEN, OPEN, cause)


def test_a_probe_whose_reply_breaks_off_reopens() -> None:
    """A good head followed by a reset fails the trial that still runs."""
    breaker, changes = half_open(half_open_successes=2)
    permit = admitted(breaker, 60.0)
    permit.settle(OK, 61.0)
    permit.late_failure(62.0)
    assert changes[-1] == Transition(62.0, HALF_OPEN, OPEN, "reply of a probe broke off")


def test_a_probe_that_never_settles_reopens() -> None:
    """After `half_open_max_wait` it counts as a failure, at that moment, and its result comes too late."""
    breaker, changes = half_open(half_open_max_wait=5.0)
    permit = admitted(breaker, 61.0)
    permit.settle(OK, 66.0)
    assert changes[-1] == Transition(66.0, HALF_OPEN, OPEN, "probe did not settle in time")
    assert breaker.retry_after(70.0) == 56.0


def test_nobody_looking_changes_nothing() -> None:
    """A lost probe and the wait behind it both pass while no request comes: the next one is a probe."""
    breaker, changes = half_open(half_open_max_wait=5.0, reset_timeout=60.0)
    admitted(breaker, 60.0)
    assert breaker.admit(10_000.0) is not None
    assert [change.time for change in changes[-2:]] == [65.0, 125.0]
