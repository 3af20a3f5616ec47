"""The circuit breaker against a naive oracle, under any order of clients, operators and time."""

from __future__ import annotations

from math import floor, inf
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from trio_gateway.config.model import CircuitBreakerConfig, OpenBackoff, SlidingWindow
from trio_gateway.domain.breaker import CircuitBreaker, Permit, Transition
from trio_gateway.domain.outcome import Outcome

OK, FAILED, TIMED_OUT, ABANDONED = Outcome


class Oracle:
    """The same promises, told naively: time is walked through due by due, and all calls are kept."""

    def __init__(self, config: CircuitBreakerConfig) -> None:
        self.config, self.now = config, 0.0
        self.changes: list[tuple[float, str, str]] = []
        self.life, self.state = 0, "closed"
        self.log: list[tuple[float, bool, bool]] = []  # this life's calls: when, failed, slow
        self.probes: dict[int, float] = {}
        self.tickets: dict[int, int] = {}
        self.good_probes = self.reopened = 0
        self.wakes_at = inf

    def become(self, state: str, *, wakes_at: float = inf) -> None:
        self.changes.append((self.now, self.state, state))
        self.life, self.state, self.wakes_at = self.life + 1, state, wakes_at
        self.log, self.probes, self.good_probes = [], {}, 0
        if state == "closed":
            self.reopened = 0

    def pass_time(self, until: float) -> None:
        while (
            due := min([self.wakes_at, *(at + self.config.half_open_max_wait for at in self.probes.values())])
        ) <= until:
            self.now = due
            if self.state == "open":
                self.become("half_open")
            else:
                self.reopen()
        self.now = until

    def reopen(self) -> None:
        self.reopened += 1
        wait = min(
            self.config.reset_timeout * self.config.open_backoff.multiplier**self.reopened,
            max(self.config.open_backoff.max, self.config.reset_timeout),
        )
        self.become("open", wakes_at=self.now + wait)

    def admit(self, ticket: int) -> bool:
        if self.state == "half_open" and len(self.probes) < self.config.half_open_max_calls:
            self.probes[ticket] = self.now
        elif self.state != "closed":
            return False
        self.tickets[ticket] = self.life
        return True

    def settle(self, ticket: int, outcome: Outcome, duration: float) -> None:
        if self.tickets[ticket] != self.life:
            return
        self.probes.pop(ticket, None)
        if outcome is not ABANDONED:
            self.count(outcome is not OK, duration)

    def late_failure(self, ticket: int) -> None:
        if self.tickets[ticket] == self.life:
            self.count(True, 0.0)

    def count(self, failed: bool, duration: float) -> None:
        if self.state == "half_open":
            self.good_probes += not failed
            if failed:
                self.reopen()
            elif self.good_probes == self.config.half_open_successes:
                self.become("closed")
            return
        self.log.append((self.now, failed, duration > self.config.slow_call_duration_threshold))
        if self.too_many_in_a_row() or self.too_high_a_rate():
            self.become("open", wakes_at=self.now + self.config.reset_timeout)

    def too_many_in_a_row(self) -> bool:
        last = [failed for _, failed, _ in self.log[-self.config.failure_threshold :]]
        return len(last) == self.config.failure_threshold and all(last)

    def too_high_a_rate(self) -> bool:
        if self.config.failure_rate_threshold is None:
            return False
        window, enough = self.config.sliding_window, self.config.minimum_number_of_calls
        if window.type == "count":
            seen, enough = self.log[-window.size :], min(enough, window.size)
        else:
            seen = [entry for entry in self.log if floor(entry[0]) > floor(self.now) - window.size]
        failures, slow = (sum(entry[i] for entry in seen) * 100 / len(seen) for i in (1, 2))
        return len(seen) >= enough and (
            failures >= self.config.failure_rate_threshold or slow >= self.config.slow_call_rate_threshold
        )


CONFIGS = st.builds(
    CircuitBreakerConfig,
    failure_threshold=st.integers(1, 4),
    reset_timeout=st.sampled_from([1.0, 8.0]),
    half_open_max_calls=st.integers(1, 3),
    half_open_successes=st.integers(1, 3),
    half_open_max_wait=st.sampled_from([0.5, 4.0, 64.0]),
    open_backoff=st.builds(OpenBackoff, st.sampled_from([1.0, 2.0]), st.sampled_from([4.0, 32.0])),
    failure_rate_threshold=st.sampled_from([None, 25.0, 50.0, 100.0]),
    sliding_window=st.builds(SlidingWindow, st.sampled_from(["count", "time"]), st.integers(1, 6)),
    minimum_number_of_calls=st.integers(1, 4),
    slow_call_duration_threshold=st.just(1.0),
    slow_call_rate_threshold=st.sampled_from([50.0, 100.0]),
)
OUTCOMES = st.sampled_from([OK, OK, OK, FAILED, FAILED, TIMED_OUT, ABANDONED])


class BreakerMachine(RuleBasedStateMachine):
    """Whatever clients, operators and time do, in any order, breaker and oracle agree."""

    held = Bundle("held")
    replied = Bundle("replied")

    @initialize(config=CONFIGS)
    def start(self, config: CircuitBreakerConfig) -> None:
        self.now, self.tickets = 0.0, 0
        self.oracle = Oracle(config)
        self.changes: list[Transition] = []
        self.breaker = CircuitBreaker(config, 0.0, self.changes.append)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0, 8.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.oracle.pass_time(self.now)

    @rule(target=held)
    def admit(self) -> Any:
        self.tickets += 1
        permit = self.breaker.admit(self.now)
        assert (permit is not None) == self.oracle.admit(self.tickets)
        return multiple() if permit is None else (self.tickets, permit)

    @rule(target=replied, ticket=held, outcome=OUTCOMES, duration=st.sampled_from([0.0, 1.0, 1.5]))
    def settle(self, ticket: tuple[int, Permit], outcome: Outcome, duration: float) -> Any:
        number, permit = ticket
        if permit._use != "held":
            permit.settle(outcome, self.now, duration)  # again: nothing may happen
            return multiple()
        permit.settle(outcome, self.now, duration)
        self.oracle.settle(number, outcome, duration)
        return multiple() if outcome is ABANDONED else ticket

    @rule(ticket=replied)
    def break_off(self, ticket: tuple[int, Permit]) -> None:
        number, permit = ticket
        if permit._use == "settled":
            self.oracle.late_failure(number)
        permit.late_failure(self.now)

    @rule()
    def trip(self) -> None:
        self.breaker.trip(self.now)
        self.oracle.become("open")

    @rule()
    def reset(self) -> None:
        self.breaker.reset(self.now)
        self.oracle.become("closed")

    @rule()
    def look(self) -> None:
        self.breaker.expire(self.now)
        assert self.breaker.state.value == self.oracle.state
        assert self.breaker.half_open_calls == len(self.oracle.probes)
        told = [(change.time, change.from_state.value, change.to_state.value) for change in self.changes]
        assert told == self.oracle.changes

    def teardown(self) -> None:
        if hasattr(self, "breaker"):
            self.look()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
