"""A gateway process under watch: memory, descriptors and tasks each second, and their slopes at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import linear_regression
from typing import Any

import trio
from attrs import define, field

from tests.e2e.started import GatewayProcess, gateway_process

_WARM_UP = 0.2  # of the samples: caches fill, the allocator finds its size
_HOST = Path(__file__).with_name("host.py")


@define
class Sample:
    """One look. `requests` is how far the load had come."""

    requests: int
    resident: int
    descriptors: int
    tasks: int


@define
class Watch:
    """What was seen of one gateway process."""

    gateway: GatewayProcess
    statistics: Path
    tasks: Path
    progress: Callable[[], int] = lambda: 0
    samples: list[Sample] = field(factory=list)

    def latest(self) -> dict[str, Any]:
        """What the gateway last said of itself."""
        lines = self.statistics.read_text().splitlines()
        return dict(json.loads(lines[-1]))

    async def run(self) -> None:
        """Sample each second until cancelled; say how it goes each minute."""
        while True:
            await trio.sleep(1)
            gateway = self.gateway
            self.samples.append(
                Sample(self.progress(), gateway.resident(), gateway.descriptors(), self.latest()["tasks"])
            )
            if len(self.samples) % 60 == 0:
                print(f"  {self.progress()} requests; {self.samples[-1]}", flush=True)

    async def standing(self) -> str:
        """Where every task of the gateway stands now."""
        self.tasks.unlink(missing_ok=True)
        self.gateway.process.send_signal(signal.SIGUSR1)
        with trio.move_on_after(5):
            while not self.tasks.exists():  # noqa: ASYNC110  a file has no event
                await trio.sleep(0.05)
            return self.tasks.read_text()
        return "the gateway says nothing: its loop does not run"

    def slopes(self) -> dict[str, float]:
        """Growth per 100 000 requests, behind the warm-up: KiB, descriptors, tasks."""
        kept = self.samples[int(len(self.samples) * _WARM_UP) :]
        if len(kept) < 10:
            return {}
        at = [sample.requests / 100_000 for sample in kept]
        series = {
            "KiB resident": [sample.resident / 1024 for sample in kept],
            "descriptors": [float(sample.descriptors) for sample in kept],
            "tasks": [float(sample.tasks) for sample in kept],
        }
        return {name: linear_regression(at, values).slope for name, values in series.items()}

    async def settled(self) -> dict[str, Any]:
        """What the gateway says once all clients are gone for some seconds: pools aged, lanes closed."""
        await trio.sleep(7)
        return self.latest()

    def lines(self) -> Counter[str]:
        """How many access lines each request id has."""
        with self.gateway.access_log.open("rb") as log:
            return Counter(json.loads(line)["request_id"] for line in log)

    def lines_of(self, names: set[str]) -> list[str]:
        """The access lines of these request ids."""
        with self.gateway.access_log.open() as log:
            return [line.strip() for line in log if json.loads(line)["request_id"] in names] if names else []


@asynccontextmanager
async def watched(directory: Path, config: str) -> AsyncIterator[Watch]:
    """A gateway on `config`, watched until the block ends."""
    statistics = directory / "statistics.jsonl"
    tasks = directory / "tasks.txt"
    os.environ["SOAK_STATISTICS"] = str(statistics)
    os.environ["SOAK_TASKS"] = str(tasks)
    os.environ["PYTHONPATH"] = str(_HOST.parents[2])
    program = (str(_HOST),)
    async with gateway_process(directory, config, program=program, seconds=float("inf")) as gateway:
        while not statistics.exists() or not statistics.read_text():  # noqa: ASYNC110  a file has no event
            await trio.sleep(0.05)
        watch = Watch(gateway, statistics, tasks)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            yield watch
            nursery.cancel_scope.cancel()


def config(port: int) -> str:
    """A gateway before one backend whose faults never open the breaker; no timer is longer than 20 s."""
    return f"""
server: {{bind: ["127.0.0.1:0"], h2c: true, timeouts: {{body_idle: 20, write: 20}}}}
shutdown: {{drain: 2s}}
health_check: {{enabled: false}}
circuit_breaker: {{failure_threshold: 1000000000}}
endpoints:
  - {{url: "http://127.0.0.1:{port}/", name: soak, methods: [GET, POST], timeout: 20, timeouts: {{idle: 20}}}}
"""


assert sys.platform == "linux", "soaks read /proc"
