"""A health nursery in virtual time over scripted probes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle
from random import Random

import trio
import trio.testing
from attrs import define

from trio_gateway.background.dial import ProbeFailed
from trio_gateway.background.prober import Prober
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.health import Check
from trio_gateway.domain.registry import Status
from trio_gateway.observe.events import EventLog
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime

RULES = "interval: 10, timeout: 4, jitter: 0, unhealthy_threshold: 3, healthy_threshold: 2"


def config(*endpoints: str, rules: str = RULES) -> GatewayConfig:
    """A config of one-line endpoints (`a` stands for one on a host of its own) with common rules."""
    lines = [
        f"{{name: {name}, url: 'http://{name}.example/'{more}}}"
        for name, more in ((text[:1], text[1:]) for text in endpoints)
    ]
    text = f"health_check: {{{rules}}}\nendpoints: [{', '.join(lines)}]"
    return parse_config(text, "test.yaml", {}).require()


class Scripted:
    """A probe that notes when it was asked, and ends as the endpoint's script says: P, F, H(ang), B(reak)."""

    def __init__(self, **scripts: Iterable[str]) -> None:
        self.asked: dict[str, list[float]] = {}
        self.at_once = 0
        self.at_once_most = 0
        self._scripts: dict[str, Iterator[str]] = {id_: iter(script) for id_, script in scripts.items()}

    async def __call__(self, check: Check) -> None:
        self.asked.setdefault(check.endpoint_id, []).append(trio.current_time())
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        step = next(self._scripts.get(check.endpoint_id, cycle("P")), "P")
        try:
            await trio.sleep(0.5)
            match step:
                case "F":
                    raise ProbeFailed("it is down")
                case "H":
                    await trio.sleep_forever()
                case "B":
                    raise ZeroDivisionError("a bug")
        finally:
            self.at_once -= 1


@define
class Nursery:
    """A running prober and what stands around it."""

    runtime: Runtime
    prober: Prober
    scope: trio.CancelScope

    def status(self, id_: str = "a") -> str:
        return self.runtime.registry.get(id_).status

    async def apply(self, changed: GatewayConfig) -> None:
        """Swap the config; the prober has followed when this returns."""
        self.runtime.apply(changed)
        await trio.testing.wait_all_tasks_blocked()

    async def set_status(self, id_: str, status: Status) -> None:
        """An operator's word, likewise."""
        self.runtime.set_status(id_, status)
        await trio.testing.wait_all_tasks_blocked()

    def flips(self) -> list[tuple[float, str | None, str]]:
        """When which endpoint became what, oldest first."""
        events = reversed(self.runtime.events.recent(kind="health"))
        return [(event.time, event.endpoint_id, event.details["after"]) for event in events]


@asynccontextmanager
async def probing(
    first: GatewayConfig,
    probe: Scripted | None = None,
    *,
    network: MemoryNetwork | None = None,
    rng: Random | None = None,
) -> AsyncIterator[Nursery]:
    """A prober at work; events carry the virtual time, and by default the first check comes at once."""
    runtime = Runtime(network or MemoryNetwork(), events=EventLog(trio.current_time))
    runtime.apply(first)
    prober = Prober(
        runtime,
        wall_clock=lambda: datetime.fromtimestamp(trio.current_time(), UTC),
        rng=rng or AtOnce(),
        probes=None if probe is None else {"http": probe, "tcp": probe},
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prober.run)
        yield Nursery(runtime, prober, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


class AtOnce(Random):
    """Chance that always says 0."""

    def random(self) -> float:
        return 0.0


def since(start: float, times: Iterable[float]) -> list[float]:
    return [round(time - start, 6) for time in times]
