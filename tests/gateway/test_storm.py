"""Storms over a whole gateway; `python bench/soak.py storms` plays thousands."""

from __future__ import annotations

import pytest

from tests.support.storm.weather import storm

SEEDS = (2, 15, 22, 25, 31, 36)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_leaves_nothing_behind(seed: int) -> None:
    """Whatever befalls both ends: nothing hangs, nothing is held, no reply meets another request."""
    results = storm(seed)
    assert sum(results.values()) > 40, "everybody must have had a part in it"
