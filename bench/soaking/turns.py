"""`trio-gateway run` with a watch over its event loop: how long each turn keeps the others waiting.

SIGUSR1 appends a JSON line to the file named by SOAK_TURNS: the longest turn since the last one in seconds,
and the most CPU time that one took. A turn is everything between two looks at the kernel: whatever stops the
loop (a slow callback, a collection of garbage, a thread that holds the interpreter, a machine that is busy
with others) is in it; of all these only the first two are in its CPU time.
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
        self.began, self.longest = time.perf_counter(), 0.0
        self.cpu_began, self.most_cpu = time.thread_time(), 0.0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  trio's signature
        """A turn begins."""
        self.began, self.cpu_began = time.perf_counter(), time.thread_time()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        """It is over."""
        self.longest = max(self.longest, time.perf_counter() - self.began)
        self.most_cpu = max(self.most_cpu, time.thread_time() - self.cpu_began)

    def report(self, *_: object) -> None:
        """Say what was seen, and begin anew."""
        with open(os.environ["SOAK_TURNS"], "a") as file:
            file.write(json.dumps([self.longest, self.most_cpu]) + "\n")
        self.longest = self.most_cpu = 0.0


if __name__ == "__main__":
    turns = Turns()
    signal.signal(signal.SIGUSR1, turns.report)
    trio.run = partial(trio.run, instruments=[turns])
    main(prog_name="trio-gateway")
