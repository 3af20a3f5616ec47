"""What both ends of a storm share: pauses, bodies that say whose they are, and the moment when all stops."""

from __future__ import annotations

import trio

PAUSES = (0, 0, 0, 0, 0, 0.003, 0.04, 0.7, 1.9, 6.0)  # the last two are beyond some timer or other


def filled(nonce: bytes, size: int) -> bytes:
    """`size` bytes that say the nonce over and over."""
    return (nonce * (size // len(nonce) + 1))[:size]


_BREATH = 0.001  # seconds: so many of them no timer notices


class Frozen:
    """Whether everybody but the gateway has stopped, each where it stands; `wild` is the storm until then."""

    def __init__(self, *, wild: bool = True) -> None:
        self.wild = wild
        self.now = False

    async def checkpoint(self, seconds: float = 0.0) -> None:
        """A pause, a short one where nothing is wild; for ever once all is frozen."""
        await trio.sleep(seconds if self.wild else min(seconds, _BREATH))
        if self.now:
            await trio.sleep_forever()
