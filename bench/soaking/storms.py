"""Section `storms`: a whole gateway in virtual time among random faults, one seed after the other."""

from __future__ import annotations

import time
import traceback
from collections import Counter

import trio

from tests.support.storm.weather import breeze, storm

_MINUTES = 5.0
_ENDLESS = 120.0  # seconds of real time: a storm takes one or two


async def storms(first: int, minutes: float | None) -> list[str]:
    """Play storms from the seed `first` on; prints what they saw and returns what was wrong."""
    results, wrong, seed = Counter[str](), list[str](), first
    end = time.monotonic() + 60 * (minutes or _MINUTES)
    while time.monotonic() < end:
        with trio.move_on_after(_ENDLESS) as patience:
            try:
                results += await trio.to_thread.run_sync(
                    storm if seed % 3 else breeze, seed, abandon_on_cancel=True
                )
            except Exception as error:
                wrong.append(f"storm {seed}: {''.join(traceback.format_exception(error))}")
        if patience.cancelled_caught:
            wrong.append(f"storm {seed} does not end")
            break
        seed += 1
    print(f"seeds {first} to {seed - 1}: {dict(results.most_common())}")
    return wrong
