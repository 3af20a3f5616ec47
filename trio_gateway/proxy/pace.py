"""`min_rate`: what stops a client that drips just fast enough for every idle timer.

Only time spent waiting for the client counts, and only when bytes moved is it judged: silence belongs
to the idle timers, which know what they wait for.
"""

from __future__ import annotations

GRACE = 5.0


class Pace:
    """The client's speed over one message in one direction. `min_rate` is bytes a second; 0 is off."""

    __slots__ = ("_min_rate", "_moved", "_waited")

    def __init__(self, min_rate: float) -> None:
        self._min_rate = min_rate
        self._moved = 0
        self._waited = 0.0

    def too_slow(self, moved: int, waited: float) -> bool:
        """Count a wait of `waited` seconds that moved `moved` bytes; whether it makes the client too slow."""
        self._moved += moved
        self._waited += waited
        return self._waited > GRACE and self._moved < self._min_rate * (self._waited - GRACE)
