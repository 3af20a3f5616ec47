"""`trio-gateway run` with a watch over its event loop: how long each turn keeps the others waiting.

SIGUSR1 appends a JSON line to the file named by SOAK_TURNS: the longest turn since the last one, in seconds.
A turn is everything between two looks at the kernel: whatever stops the loop (a slow callback, a collection
of garbage, a thread that holds the interpreter) is in it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial

import trio

from trio_gateway.cli import main


class Turns(trio.abc.Instrument):
    """The longest turn so far."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.longest = 0.0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  trio's signature
        """A turn begins."""
        self.began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        """It is over."""
        self.longest = max(self.longest, time.perf_counter() - self.began)

    def report(self, *_: object) -> None:
        """Say what was seen, and begin anew."""
        with open(os.environ["SOAK_TURNS"], "a") as file:
            file.write(json.dumps(self.longest) + "\n")
        self.longest = 0.0


if __name__ == "__main__":
    turns = Turns()
    signal.signal(signal.SIGUSR1, turns.report)
    trio.run = partial(trio.run, instruments=[turns])
    main(prog_name="trio-gateway")
