"""The words that replies are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from trio_gateway.admin.shapes import Done, maybe_timestamp, seconds, timestamp


def test_times_are_rfc_3339_in_utc() -> None:
    """With offset and microseconds, whatever zone they come in."""
    eastern = datetime(2026, 11, 23, 11, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert timestamp(eastern) == "2026-11-23T16:30:00.000000+00:00"
    assert maybe_timestamp(None) is None
    assert maybe_timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000+00:00"


@pytest.mark.parametrize(("value", "text"), [(30.0, b"30"), (0.5, b"0.5"), (1e6, b"1000000")])
def test_whole_seconds_have_no_fraction(value: float, text: bytes) -> None:
    """Old clients know 30, not 30.0."""
    assert msgspec.json.encode(seconds(value)) == text


def test_keys_come_in_the_order_of_the_class() -> None:
    """A reply reads as it is documented."""
    assert msgspec.json.encode(Done(True, "m", "id")) == b'{"success":true,"message":"m","endpoint_id":"id"}'
