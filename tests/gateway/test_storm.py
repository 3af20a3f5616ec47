"""Storms over a whole gateway; `python bench/soak.py storms` plays thousands."""

from __future__ import annotations

import pytest

from tests.support.storm.weather import breeze, storm

SEEDS = (2, 15, 22, 25, 31, 36)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_leaves_nothing_behind(seed: int) -> None:
    """Whatever befalls both ends: nothing hangs, nothing is held, no reply meets another request."""
    results = storm(seed)
    assert sum(results.values()) > 40, "everybody must have had a part in it"


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_where_nobody_does_wrong_no_timer_runs_out(seed: int) -> None:
    """Everybody is answered, by their backend, at once: no wake-up is lost, no place in a pool."""
    assert breeze(seed)["200"] > 40
