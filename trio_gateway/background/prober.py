"""The health nursery: one task per endpoint that checks it at its interval and counts the verdicts.

The nursery follows the registry. After each change it compares every endpoint's `Check` with the one that
its task works on: new ones start, those that are gone, out of service or changed are cancelled, and equal
ones go on as if nothing had happened, in the middle of their interval.

First checks are spread over a few seconds, later ones by jitter, so that a thousand endpoints never ask at
once. A verdict reaches the request path through the registry alone: where it says `unhealthy`, the gate
answers 503. An operator may say otherwise there at any time; then the count starts anew from that word.

A probe that finds a backend dead is a verdict. A probe that breaks is our own fault: it is logged, says
nothing about the backend, and is tried again at growing intervals; all other tasks go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random

import structlog
import trio
from attrs import define, evolve, field, frozen

from trio_gateway.background.dial import ProbeFailed, reason
from trio_gateway.background.probes import Probe, probes_over
from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.health import Check, HealthRecord, HealthState, HealthSummary, panics, summarise
from trio_gateway.domain.registry import EndpointNotFound, Entry, Status
from trio_gateway.observe.metrics import CheckResult
from trio_gateway.proxy.runtime import Runtime

log = structlog.get_logger("trio_gateway.health")

_FIRST_WITHIN = 5.0  # seconds, or the interval when that is shorter
_SLICE = 25  # tasks started or cancelled in one turn of the event loop
_MOST_DOUBLINGS = 6  # of the interval, while a probe breaks time and again


def _now() -> datetime:
    return datetime.now(UTC)


@frozen
class _Verdict:
    """How one check ended; `error` is None when it passed."""

    error: str | None
    result: CheckResult
    time: datetime
    duration: float

    def record(self, endpoint_id: str) -> HealthRecord:
        """What there is to read of it."""
        return HealthRecord(endpoint_id, "active", self.time, self.duration, self.error)


@define(eq=False)
class _Watch:
    """One endpoint under watch. `seen` is its status when we last looked: another one is an operator's."""

    entry: Entry
    config: EndpointConfig
    check: Check
    state: HealthState
    seen: Status
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    turn: trio.Lock = field(factory=trio.Lock)

    @classmethod
    def of(cls, entry: Entry) -> _Watch:
        """A watch that begins with what the registry says."""
        check = Check.of(entry.config)
        state = HealthState(check.rules, entry.status != "unhealthy", trio.current_time())
        return cls(entry, entry.config, check, state, entry.status)

    def still_serves(self, entry: Entry | None) -> bool:
        """Whether this is the endpoint, and its check the same."""
        if entry is not self.entry:
            return False
        if entry.config is self.config:  # most are: a change of one endpoint asks for all
            return True
        self.config = entry.config
        return Check.of(entry.config) == self.check

    def listen(self) -> bool:
        """Take over what somebody else has said of the endpoint since we last looked; whether they did."""
        if self.entry.status == self.seen:
            return False
        self.seen = self.entry.status
        self.state.override(self.seen != "unhealthy", trio.current_time())
        return True

    def told(self, record: HealthRecord) -> HealthRecord:
        """The record with the state of now."""
        return evolve(
            record,
            status="active" if self.state.healthy else "unhealthy",
            consecutive_failures=self.state.consecutive_failures,
            consecutive_successes=self.state.consecutive_successes,
        )


class Prober:
    """Checks all endpoints while `run` runs. `records` has those under watch, by id.

    `probes` are the types that checks may name; the usual ones go over the runtime's network.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        wall_clock: Callable[[], datetime] = _now,
        rng: Random | None = None,
        probes: Mapping[str, Probe] | None = None,
    ) -> None:
        self.records: dict[str, HealthRecord] = {}
        self._runtime = runtime
        self._wall_clock = wall_clock
        self._rng = rng or Random()  # noqa: S311  it spreads load, it keeps no secret
        self._probes = probes_over(runtime.network) if probes is None else probes
        self._watches: dict[str, _Watch] = {}
        self._changed = trio.Event()
        runtime.subscribe(lambda: self._changed.set())

    async def run(self) -> None:
        """Check until cancelled; then nothing is under watch. It may be called again."""
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    self._changed = trio.Event()
                    await self._follow(nursery)
                    await self._changed.wait()
            finally:
                for id_ in list(self._watches):
                    self._stop(id_)

    async def check(self, id_: str) -> HealthRecord:
        """Check an endpoint now; its schedule stays. Raises EndpointNotFound.

        The verdict counts as any other. Of an endpoint that is not under watch it is only told. Waits for a
        check that is under way; cancelled, nothing is counted.
        """
        watch = self._watches.get(id_)
        if watch is None:
            watch = _Watch.of(self._runtime.registry.get(id_))
        return await self._examine(watch)

    def summary(self) -> HealthSummary:
        """All endpoints under watch in one view."""
        return summarise(self.records.values(), self._runtime.plan.config.health_check)

    # ---- following the plan

    async def _follow(self, nursery: trio.Nursery) -> None:
        entries = {entry.id: entry for entry in self._runtime.registry if _is_watched(entry)}
        for count, (id_, watch) in enumerate(list(self._watches.items()), 1):
            if not watch.still_serves(entries.get(id_)):
                self._stop(id_)
            elif watch.listen():
                self._show(watch, self.records[id_])
            await _yield_now_and_then(count)
        for count, id_ in enumerate(entries.keys() - self._watches.keys(), 1):
            if self._knows(entries[id_]):
                self._start(nursery, _Watch.of(entries[id_]))
            await _yield_now_and_then(count)

    def _knows(self, entry: Entry) -> bool:
        """Whether it is still there: a change may come at any wait, and gone numbers must stay gone."""
        try:
            return self._runtime.registry.get(entry.id) is entry
        except EndpointNotFound:
            return False

    def _start(self, nursery: trio.Nursery, watch: _Watch) -> None:
        id_ = watch.entry.id
        self._watches[id_] = watch
        self._show(watch, HealthRecord(id_, "active"))
        nursery.start_soon(self._keep_checking, watch, name=f"health of {id_}")

    def _stop(self, id_: str) -> None:
        self._watches.pop(id_).scope.cancel()
        del self.records[id_]
        stats = self._runtime.metrics.endpoints().get(id_)
        if stats is not None:
            stats.healthy = None

    def _show(self, watch: _Watch, record: HealthRecord) -> None:
        self.records[record.endpoint_id] = watch.told(record)
        self._runtime.metrics.endpoint(record.endpoint_id).healthy = watch.state.healthy

    # ---- checking

    async def _keep_checking(self, watch: _Watch) -> None:
        broken = 0
        with watch.scope:
            due = trio.current_time() + self._rng.random() * min(_FIRST_WITHIN, watch.check.rules.interval)
            while True:
                await trio.sleep_until(watch.check.start(due))
                try:
                    await self._examine(watch)
                    broken = 0
                except Exception as bug:
                    broken = min(broken + 1, _MOST_DOUBLINGS)
                    log.exception("health check broke", endpoint=watch.entry.id, exc_info=bug)
                due = max(due + watch.check.delay(self._rng) * 2**broken, trio.current_time())

    async def _examine(self, watch: _Watch) -> HealthRecord:
        async with watch.turn:
            verdict = await self._probe(watch.check)
            watch.listen()
            flipped = watch.state.record(verdict.error is None, trio.current_time())
            record = watch.told(verdict.record(watch.entry.id))
            if self._watches.get(watch.entry.id) is watch and self._knows(watch.entry):
                self._runtime.metrics.endpoint(watch.entry.id).checked(verdict.result, verdict.duration)
                self._show(watch, record)
                self._act(watch, record, flipped)
            return record

    async def _probe(self, check: Check) -> _Verdict:
        error: str | None = None
        result: CheckResult = "passed"
        time, began = self._wall_clock(), trio.current_time()
        with trio.move_on_after(check.rules.timeout) as patience:
            try:
                await self._probes[check.type](check)
            except (ProbeFailed, OSError) as failure:
                result, error = "failed", reason(failure)
        if patience.cancelled_caught:
            result, error = "timed_out", f"no answer within {check.rules.timeout:g} s"
        return _Verdict(error, result, time, trio.current_time() - began)

    # ---- what follows from a verdict

    def _act(self, watch: _Watch, record: HealthRecord, flipped: bool) -> None:
        healthy = watch.state.healthy
        ignored = panics(int(healthy), 1, watch.check.rules.panic_threshold)
        self._runtime.registry.mark(record.endpoint_id, healthy=healthy or ignored)
        watch.seen = watch.entry.status
        if flipped:
            self._tell(record, ignored)

    def _tell(self, record: HealthRecord, ignored: bool) -> None:
        healthy, cause = record.status == "active", record.error_message or "checks pass"
        self._runtime.events.record(
            "health",
            cause,
            record.endpoint_id,
            before="unhealthy" if healthy else "active",
            after=record.status,
            ignored=ignored,
        )
        if healthy:
            log.info("endpoint healthy", endpoint=record.endpoint_id)
        else:
            log.warning("endpoint unhealthy", endpoint=record.endpoint_id, cause=cause, ignored=ignored)


async def _yield_now_and_then(count: int) -> None:
    """Let requests through: every task that starts or ends takes its own turn, too."""
    if count % _SLICE == 0:
        await trio.lowlevel.checkpoint()


def _is_watched(entry: Entry) -> bool:
    return entry.config.health_check.enabled and entry.status != "disabled"
