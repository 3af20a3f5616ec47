"""The circuit breaker of one endpoint: a state machine that is told the time and never waits.

Theory (Nygard, "Release It!"). CLOSED admits everything and watches the results. Too many failures
OPEN it: nothing is admitted, the upstream gets time to recover. When the time is over it is
HALF_OPEN: a few probes may pass, and their results decide between CLOSED and OPEN.

The whole machine is `TRANSITIONS`, one table of (state, event). An event that the table does not list
raises and changes nothing. What is not in the table are counters that decide *when* an event happens.

Two ideas carry the rest:

- *Time is read, not waited for.* Nothing happens between calls, so each call first lets everything
  happen that was due by `now`, at the moment when it was due (`expire`). The machine behaves as if it
  had timers: looking at it, or not looking, never changes what it does.
- *Permits carry a generation.* Each change of state starts a new one, and a result that belongs to an
  older one is ignored: a slow request from before an outage can't close or open anything after it.

While CLOSED, admitting and settling a success touch three attributes; everything else is off that path.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from types import MappingProxyType
from typing import Literal

from attrs import define, field, frozen

from trio_gateway.config.model import CircuitBreakerConfig
from trio_gateway.domain.outcome import Outcome
from trio_gateway.domain.window import Window, window_of


class State(Enum):
    """Whether the endpoint is served (CLOSED), cut off (OPEN) or on trial (HALF_OPEN)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED, _OPEN, _HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN  # a name is quicker than a member
_OK, _ABANDONED = Outcome.OK, Outcome.ABANDONED


class Event(Enum):
    """What can change the state."""

    FAILURES = "failures"  # too many in a row, or too high a rate
    WAIT_OVER = "wait_over"  # the time to spend open has passed
    PROBES_PASSED = "probes_passed"
    PROBE_FAILED = "probe_failed"  # failed, or did not settle in time
    TRIP = "trip"
    RESET = "reset"


TRANSITIONS = MappingProxyType(
    {
        (State.CLOSED, Event.FAILURES): State.OPEN,
        (State.CLOSED, Event.TRIP): State.OPEN,
        (State.CLOSED, Event.RESET): State.CLOSED,
        (State.OPEN, Event.WAIT_OVER): State.HALF_OPEN,
        (State.OPEN, Event.TRIP): State.OPEN,
        (State.OPEN, Event.RESET): State.CLOSED,
        (State.HALF_OPEN, Event.PROBES_PASSED): State.CLOSED,
        (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
        (State.HALF_OPEN, Event.TRIP): State.OPEN,
        (State.HALF_OPEN, Event.RESET): State.CLOSED,
    }
)


class IllegalEvent(Exception):
    """An event that can't happen in this state: a mistake in the caller, and nothing was changed."""


@frozen
class Transition:
    """One change of state, for the event log and the metrics. `time` is on the caller's clock."""

    time: float
    from_state: State
    to_state: State
    cause: str


@define(eq=False, repr=False)
class Permit:
    """Leave to send one request. Its holder must settle it, whatever happens; the first settling wins."""

    _breaker: CircuitBreaker
    _generation: int
    _use: Literal["held", "settled", "spent"] = field(init=False, default="held")

    def settle(self, outcome: Outcome, now: float, duration: float = 0.0) -> None:
        """Report how the request ended, `duration` seconds after it was sent. Later calls do nothing."""
        if self._use == "held":
            self._use = "settled" if outcome is not _ABANDONED else "spent"
            self._breaker._settle(self, self._generation, outcome, now, duration)

    def late_failure(self, now: float) -> None:
        """Report that a reply broke off behind its head: one more failure, once, unless it was abandoned."""
        if self._use == "settled":
            self._use = "spent"
            self._breaker._late_failure(self._generation, now)


@define(eq=False)
class CircuitBreaker:
    """Decides whether an endpoint's requests may be sent.

    `now` is seconds on any clock that never runs backwards. `on_change` hears of every transition
    after it was made, in order.
    """

    config: CircuitBreakerConfig
    state_changed_time: float
    _on_change: Callable[[Transition], None] = field(repr=False)
    state: State = field(init=False, default=_CLOSED)
    generation: int = field(init=False, default=0)
    failure_count: int = field(init=False, default=0)  # in a row
    last_failure_time: float | None = field(init=False, default=None)
    last_success_time: float | None = field(init=False, default=None)
    _window: Window | None = field(init=False, default=None, repr=False)  # only in rate mode
    _minimum_calls: int = field(init=False, repr=False)
    _open_for: float = field(init=False)
    _open_until: float = field(init=False, default=inf)
    _probes: dict[Permit, float] = field(init=False, factory=dict, repr=False)  # to the end of its wait
    _passed: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        """A count window smaller than the minimum would never be judged, so its size is the minimum then."""
        window, self._minimum_calls = self.config.sliding_window, self.config.minimum_number_of_calls
        if window.type == "count":
            self._minimum_calls = min(self._minimum_calls, window.size)
        self._begin_closed()

    # ---- what requests do ----------------------------------------------------------------------

    def admit(self, now: float) -> Permit | None:
        """A permit to send a request at `now`, or None: the request is refused."""
        if self.state is _CLOSED:
            return Permit(self, self.generation)
        return self._admit_probe(now)

    def _admit_probe(self, now: float) -> Permit | None:
        self.expire(now)
        if self.state is _OPEN or self.half_open_calls >= self.config.half_open_max_calls:
            return None
        permit = Permit(self, self.generation)
        self._probes[permit] = now + self.config.half_open_max_wait
        return permit

    def _settle(self, permit: Permit, generation: int, outcome: Outcome, now: float, duration: float) -> None:
        if self.state is not _CLOSED:
            self.expire(now)
        if generation != self.generation:
            return
        if self.state is _HALF_OPEN:
            self._settle_probe(permit, outcome, now)
        elif outcome is _OK:
            self.failure_count = 0
            self.last_success_time = now
            if self._window is not None:
                self._record(now, failed=False, duration=duration)
        elif outcome is not _ABANDONED:
            self._fail(now, duration)

    def _settle_probe(self, permit: Permit, outcome: Outcome, now: float) -> None:
        del self._probes[permit]
        if outcome is _OK:
            self.last_success_time = now
            self._passed += 1
            if self._passed >= self.config.half_open_successes:
                self.apply(Event.PROBES_PASSED, now, f"probes succeeded: {self._passed}")
        elif outcome is not _ABANDONED:
            self._fail_probe(now, "probe timed out" if outcome is Outcome.TIMED_OUT else "probe failed")

    def _late_failure(self, generation: int, now: float) -> None:
        if self.state is not _CLOSED:
            self.expire(now)
        if generation != self.generation:
            return
        if self.state is _HALF_OPEN:
            self._fail_probe(now, "reply of a probe broke off")
        else:
            self._fail(now, 0.0)

    def _fail(self, now: float, duration: float) -> None:
        self.failure_count += 1
        self.last_failure_time = now
        if self.failure_count >= self.config.failure_threshold:
            self.apply(Event.FAILURES, now, f"failures in a row: {self.failure_count}")
        elif self._window is not None:
            self._record(now, failed=True, duration=duration)

    def _fail_probe(self, now: float, cause: str) -> None:
        self.failure_count += 1
        self.last_failure_time = now
        self.apply(Event.PROBE_FAILED, now, cause)

    def _record(self, now: float, *, failed: bool, duration: float) -> None:
        """Rate mode: count the call in the window and open when a rate has reached its threshold."""
        config, window = self.config, self._window
        assert window is not None
        assert config.failure_rate_threshold is not None
        window.record(now, failed=failed, slow=duration > config.slow_call_duration_threshold)
        if window.calls < self._minimum_calls:
            return
        if window.failure_rate >= config.failure_rate_threshold:
            rate = f"failure rate {window.failure_rate:.0f}%"
        elif window.slow_rate >= config.slow_call_rate_threshold:
            rate = f"slow call rate {window.slow_rate:.0f}%"
        else:
            return
        self.apply(Event.FAILURES, now, f"{rate} of {window.calls} calls")

    # ---- what operators do, and time -----------------------------------------------------------

    def trip(self, now: float, cause: str = "operator") -> None:
        """Cut the endpoint off until `reset`, however long that is."""
        self.expire(now)
        self.apply(Event.TRIP, now, cause)

    def reset(self, now: float, cause: str = "operator") -> None:
        """Close, and forget all failures."""
        self.expire(now)
        self.apply(Event.RESET, now, cause)

    def expire(self, now: float) -> None:
        """Let happen what was due by `now`: the end of the wait, and the end of patience with a probe."""
        if self.state is _HALF_OPEN and self._probes:
            due = next(iter(self._probes.values()))
            if due <= now:
                self._fail_probe(due, "probe did not settle in time")
        if self.state is _OPEN and self._open_until <= now:
            self.apply(Event.WAIT_OVER, self._open_until, "wait over")

    def retry_after(self, now: float) -> float:
        """Seconds until a refused request may be worth another try: infinite while tripped by hand."""
        self.expire(now)
        return max(0.0, self._open_until - now) if self.state is _OPEN else 0.0

    @property
    def half_open_calls(self) -> int:
        """Probes on their way."""
        return len(self._probes)

    # ---- the machine ---------------------------------------------------------------------------

    def apply(self, event: Event, now: float, cause: str) -> None:
        """Change the state as the table says; IllegalEvent, and no change, where it says nothing."""
        before = self.state
        after = TRANSITIONS.get((before, event))
        if after is None:
            raise IllegalEvent(f"{event.value} while {before.value}")
        self.state = after
        self.state_changed_time = now
        self.generation += 1
        self._probes.clear()
        self._passed = 0
        if after is _CLOSED:
            self._begin_closed()
        elif after is _OPEN:
            self._begin_open(event, now)
        self._on_change(Transition(now, before, after, cause))

    def _begin_closed(self) -> None:
        config = self.config
        self.failure_count = 0
        self._open_for = config.reset_timeout
        if config.failure_rate_threshold is not None:
            self._window = window_of(config.sliding_window)

    def _begin_open(self, event: Event, now: float) -> None:
        """Wait `reset_timeout`, and longer at each reopening; the cap never shortens the first wait."""
        config = self.config
        if event is Event.PROBE_FAILED:
            longest = max(config.open_backoff.max, config.reset_timeout)
            self._open_for = min(self._open_for * config.open_backoff.multiplier, longest)
        self._open_until = inf if event is Event.TRIP else now + self._open_for
