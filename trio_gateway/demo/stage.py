"""The sample backends and a gateway before them, in one Trio program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, frozen

from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.demo.backend import Backend
from trio_gateway.demo.samples import Events, Flaky, Users
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.proxy.network import Network, RealNetwork
from trio_gateway.supervisor import Gateway

_CONFIG = """\
server:
  bind: ["{bind}"]
  limits: {{connections: 1000}}
shutdown: {{drain: 1s}}
endpoints:
  - name: users
    url: {users}/api
    methods: [GET, POST]
  - name: events
    url: {events}
  - name: flaky
    url: {flaky}
    methods: [GET, POST]
    timeout: {timeout}
    circuit_breaker: {{failure_threshold: {failures}, reset_timeout: {reset_timeout}}}
"""


@frozen
class Temper:
    """How patient the gateway is with the flaky backend; times in seconds."""

    timeout: float = 2.0
    failures: int = 3
    reset_timeout: float = 5.0


@define(eq=False)
class Stage:
    """What runs. `base` is the url under which the gateway serves its endpoints."""

    gateway: Gateway
    config_text: str
    temper: Temper
    users: Users
    events: Events
    flaky: Flaky
    backends: dict[str, Backend]

    @property
    def base(self) -> str:
        """The gateway's own url and its prefix."""
        host, port = self.gateway.addresses[0]
        return f"http://{host}:{port}/orchestrator"


@asynccontextmanager
async def open_stage(
    bind: str,
    temper: Temper,
    *,
    network: Network | None = None,
    access_log: AccessLog | None = None,
) -> AsyncIterator[Stage]:
    """Start the backends on free ports and the gateway at `bind`; all of it ends with the block.

    Raises OSError when `bind` can't be had.
    """
    network = network or RealNetwork()
    users, events, flaky = Users(), Events(), Flaky()
    backends = {"users": Backend(users), "events": Backend(events), "flaky": Backend(flaky)}
    async with trio.open_nursery() as nursery:
        for backend in backends.values():
            await nursery.start(backend.serve, network)
        text, config = _config(bind, temper, backends)
        gateway = Gateway(config, network=network, access_log=access_log)
        try:
            await nursery.start(gateway.run)
            yield Stage(gateway, text, temper, users, events, flaky, backends)
        finally:
            nursery.cancel_scope.cancel()


def _config(bind: str, temper: Temper, backends: dict[str, Backend]) -> tuple[str, GatewayConfig]:
    text = _CONFIG.format(
        bind=bind,
        timeout=temper.timeout,
        failures=temper.failures,
        reset_timeout=temper.reset_timeout,
        **{name: backend.url for name, backend in backends.items()},
    )
    return text, parse_config(text, "demo.yaml", {}).require()
