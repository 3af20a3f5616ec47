"""The ring of state changes."""

from __future__ import annotations

from trio_gateway.observe.events import EventLog, StateChange


def test_events_carry_time_and_cause() -> None:
    """An event says when, what, where and why, and its number."""
    log = EventLog(lambda: 1700000000.5)
    event = log.record("circuit_breaker", "failures in a row: 5", "users", to="open")
    assert event == StateChange(
        1, 1700000000.5, "circuit_breaker", "users", "failures in a row: 5", {"to": "open"}
    )
    assert log.recent() == [event]


def test_the_newest_come_first_and_the_oldest_leave() -> None:
    """The ring holds `capacity` events, and the numbers show that some are gone."""
    log = EventLog(lambda: 0.0, capacity=3)
    for number in range(5):
        log.record("config", f"load {number}")
    assert [event.number for event in log.recent()] == [5, 4, 3]
    assert [event.cause for event in log.recent(2)] == ["load 4", "load 3"]
    assert log.recent(0) == []


def test_events_can_be_narrowed() -> None:
    """By kind, by endpoint, or by both."""
    log = EventLog(lambda: 0.0)
    log.record("health", "a", "users")
    log.record("health", "b", "orders")
    log.record("circuit_breaker", "c", "users")
    log.record("config", "d")
    assert [event.cause for event in log.recent(kind="health")] == ["b", "a"]
    assert [event.cause for event in log.recent(endpoint_id="users")] == ["c", "a"]
    assert [event.cause for event in log.recent(kind="health", endpoint_id="users")] == ["a"]
