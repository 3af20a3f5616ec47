"""The last state changes of the gateway: what an operator asks for first after an incident.

A bounded ring in memory. Events are rare (a breaker opens, an endpoint turns unhealthy, a config is
loaded), so each is a small object with wall time and cause, and the oldest leave without a trace but
for the gap in the numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen


@frozen
class StateChange:
    """Something changed: when (Unix seconds), what kind of thing, on which endpoint, and why."""

    number: int  # counts all events of this process, from 1
    time: float
    kind: str
    endpoint_id: str | None
    cause: str
    details: Mapping[str, Any]


@define(eq=False)
class EventLog:
    """The last `capacity` state changes. `wall_clock` gives Unix seconds."""

    wall_clock: Callable[[], float]
    capacity: int = 1000
    _ring: deque[StateChange] = field(init=False, repr=False)
    _count: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._ring = deque(maxlen=self.capacity)

    def record(
        self, kind: str, cause: str, endpoint_id: str | None = None, **details: str | int | float | None
    ) -> StateChange:
        """Note that something changed now."""
        self._count += 1
        event = StateChange(self._count, self.wall_clock(), kind, endpoint_id, cause, details)
        self._ring.append(event)
        return event

    def recent(
        self, limit: int = 100, *, kind: str | None = None, endpoint_id: str | None = None
    ) -> list[StateChange]:
        """The newest events first, at most `limit`, of one kind or endpoint when named."""
        found: list[StateChange] = []
        for event in reversed(self._ring):
            if len(found) == limit:
                break
            if kind in (None, event.kind) and endpoint_id in (None, event.endpoint_id):
                found.append(event)
        return found
