"""What the gateway counts.

The request path bumps plain attributes: `finish` is one call per request, and no lock, no label lookup
and no metric object of a library stands between it and its integers. `exposition` turns them into text
when somebody asks, in any thread: it reads numbers that only grow, and copies each mapping in one step.
What is a state and no count (connections in a pool, its queue) is not kept here a second time, but read
from what has it.

The number of series is bounded by the config and by constants. Labels are endpoint ids, the seven
methods and "other", classes of statuses, and our own words for why something ended; nothing that a
client sends becomes a label.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, get_args

from attrs import define, field, frozen

from trio_gateway.domain.breaker import State, Transition

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, in seconds."""
CONNECT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0)

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_OTHER = b"other"

CheckResult = Literal["passed", "failed", "timed_out"]
Refusal = Literal["connections", "connections_per_client", "proxy_header"]

REFUSALS: tuple[Refusal, ...] = get_args(Refusal)
"""Why a connection is closed unserved."""


def _one_more_than(bounds: tuple[float, ...]) -> list[int]:
    return [0] * (len(bounds) + 1)  # the last is for what exceeds them all


@define(eq=False)
class EndpointStats:
    """One endpoint's numbers. The holder of a request calls `start` and, whatever happens, `finish`."""

    in_flight: int = 0
    bytes_in: int = 0  # of request bodies
    bytes_out: int = 0  # of reply bodies
    seconds: float = 0.0
    breaker_state: State = State.CLOSED
    requests: dict[tuple[bytes, int, str], int] = field(factory=dict)  # by method, status class, reason
    transitions: dict[tuple[State, State], int] = field(factory=dict)
    latency: list[int] = field(factory=lambda: _one_more_than(BUCKETS))  # per bucket, not cumulated
    healthy: bool | None = None  # what its checks say; None while it is not monitored
    checks: dict[CheckResult, int] = field(factory=dict)
    check_seconds: float = 0.0

    def start(self) -> None:
        """A request came for this endpoint."""
        self.in_flight += 1

    def finish(
        self, method: bytes, status: int, reason: str, duration: float, bytes_in: int, bytes_out: int
    ) -> None:
        """The request ended after `duration` seconds, for one of a few fixed reasons."""
        self.in_flight -= 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.seconds += duration
        self.latency[bisect_left(BUCKETS, duration)] += 1
        key = (method, status // 100, reason)
        try:
            self.requests[key] += 1
        except KeyError:
            self._count_first(key)

    def _count_first(self, key: tuple[bytes, int, str]) -> None:
        method, status_class, reason = key
        known = (method if method in _METHODS else _OTHER, status_class, reason)
        self.requests[known] = self.requests.get(known, 0) + 1

    def breaker_changed(self, transition: Transition) -> None:
        """The endpoint's breaker changed its state."""
        self.breaker_state = transition.to_state
        change = (transition.from_state, transition.to_state)
        self.transitions[change] = self.transitions.get(change, 0) + 1

    def checked(self, result: CheckResult, duration: float) -> None:
        """A health check ended after `duration` seconds."""
        self.checks[result] = self.checks.get(result, 0) + 1
        self.check_seconds += duration


@define(eq=False)
class PoolStats:
    """What a pool counts: connections that it opens, and takers that have to wait for a place."""

    connects: int = 0  # begun; what neither came about nor failed was cancelled or is under way
    connect_seconds: float = 0.0  # of those that came about, like `connect_times`
    connect_times: list[int] = field(factory=lambda: _one_more_than(CONNECT_BUCKETS))
    connect_failures: dict[str, int] = field(factory=dict)  # by the error's code
    waits: int = 0  # ended ones, whether they brought a place or not
    wait_seconds: float = 0.0

    def connected(self, duration: float) -> None:
        """A connection came about within `duration` seconds."""
        self.connect_seconds += duration
        self.connect_times[bisect_left(CONNECT_BUCKETS, duration)] += 1

    def connect_failed(self, code: str) -> None:
        """A connection did not come about."""
        self.connect_failures[code] = self.connect_failures.get(code, 0) + 1

    def waited(self, duration: float) -> None:
        """A taker waited for `duration` seconds."""
        self.waits += 1
        self.wait_seconds += duration


@frozen
class PoolStatistics:
    """A snapshot: connections in use, idle, and takers that wait."""

    active: int
    idle: int
    waiting: int


class PoolView(Protocol):
    """A pool, as far as its numbers go."""

    stats: PoolStats

    def statistics(self) -> PoolStatistics:
        """What it holds now."""
        ...


@define(eq=False)
class StreamStats:
    """WebSockets and event streams."""

    active: int = 0
    refused: int = 0  # for want of a place


@define(eq=False)
class LoopStats:
    """How late the event loop came back to a task that was due."""

    seconds: float = 0.0
    times: list[int] = field(factory=lambda: _one_more_than(LAG_BUCKETS))
    longest: float = 0.0

    def woke(self, late: float) -> None:
        """A task was woken `late` seconds after it was due."""
        self.seconds += late
        self.times[bisect_left(LAG_BUCKETS, late)] += 1
        if late > self.longest:
            self.longest = late

    def take_longest(self) -> float:
        """The longest delay since this was last asked."""
        longest, self.longest = self.longest, 0.0
        return longest


@define(eq=False)
class TlsStats:
    """What TLS towards clients counts. Failures are by our own words for why."""

    handshakes: dict[str, int] = field(factory=dict)  # those that were done, by protocol version
    failures: dict[str, int] = field(factory=dict)
    expiries: Mapping[str, float] = field(factory=dict)  # Unix seconds, by the certificate's file
    renewals: int = 0
    renewal_failures: int = 0  # the new files were broken; the old ones stayed
    is_broken: bool = False  # the last renewal failed

    def shaken(self, version: str) -> None:
        """A handshake was done."""
        self.handshakes[version] = self.handshakes.get(version, 0) + 1

    def failed(self, reason: str) -> None:
        """A handshake was not."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


@define(eq=False)
class Metrics:
    """All numbers of one gateway. Counters are plain attributes: whoever sees the thing happen adds one."""

    connections_accepted: int = 0
    connections_active: int = 0
    connections_refused: dict[Refusal, int] = field(factory=lambda: dict.fromkeys(REFUSALS, 0))
    connections_used_up: int = 0  # they carried all the requests that one may
    accept_pauses: int = 0  # for want of descriptors
    heads_refused: dict[str, int] = field(factory=dict)
    handler_errors: int = 0  # exceptions that a connection's guard caught
    config_reloads: int = 0
    config_reload_failures: int = 0  # the file was broken; what was in force stayed
    config_is_broken: bool = False  # the last reload failed
    config_loaded_at: float = field(factory=time.time)  # Unix seconds of the config in force
    access_lines_dropped: Callable[[], int] = field(default=int)  # the access log counts them itself
    pools: Callable[[], Mapping[str, PoolView]] = field(default=dict)  # the live ones by endpoint id
    streams: StreamStats = field(factory=StreamStats)
    loop: LoopStats = field(factory=LoopStats)
    tls: TlsStats = field(factory=TlsStats)
    _endpoints: dict[str, EndpointStats] = field(factory=dict)

    def head_refused(self, code: str) -> None:
        """What came was no servable request, for the reason that an error's code tells."""
        self.heads_refused[code] = self.heads_refused.get(code, 0) + 1

    def endpoint(self, endpoint_id: str) -> EndpointStats:
        """The numbers of an endpoint, the same object at each call."""
        stats = self._endpoints.get(endpoint_id)
        if stats is None:
            stats = self._endpoints[endpoint_id] = EndpointStats()
        return stats

    def forget(self, endpoint_id: str) -> None:
        """Drop the numbers of an endpoint that is gone; nothing happens when there are none."""
        self._endpoints.pop(endpoint_id, None)

    def endpoints(self) -> dict[str, EndpointStats]:
        """All endpoints' numbers by id, as of now."""
        return dict(self._endpoints)
