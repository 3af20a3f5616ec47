"""A whole gateway in memory with its management API: config text in, replies out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import trio
from attrs import define, field

from tests.support.client import Answer
from tests.support.doors import LaneCaller
from tests.support.gateway import Lines
from tests.support.stage import Line
from tests.support.upstream import Script, Upstream, answering
from trio_gateway.admin.app import make_app
from trio_gateway.admin.dispatch import Management
from trio_gateway.admin.guard import Guard
from trio_gateway.admin.operations import Role, shown
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.tokens import Scope, issue
from trio_gateway.background.prober import Prober
from trio_gateway.background.registrations import Registrations
from trio_gateway.background.state import StateStore
from trio_gateway.background.watcher import Reloader, Watcher
from trio_gateway.config.addresses import Address
from trio_gateway.config.load import digest_of, load_config
from trio_gateway.config.model import BindConfig, JwtConfig
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import serve
from trio_gateway.server.hypercorn import HypercornDoor
from trio_gateway.server.ingress import Ingress
from trio_gateway.server.listener import Server, open_listeners

ADDRESS: Address = ("127.0.0.1", 8000)
SECRET = "0123456789abcdef" * 4

CONFIG = f"""
server: {{bind: ["127.0.0.1:8000"]}}
admin: {{auth: {{jwt: {{secret: {SECRET}}}}}}}
endpoints:
  - url: "http://127.0.0.1:9001/"
    name: users
    version: v1
    methods: [GET, POST]
    health_check_path: /health
  - {{url: "http://127.0.0.1:9002/base", name: orders}}
  - {{url: "http://127.0.0.1:9003/", name: legacy, disabled: true}}
"""


def token(scope: str = "write", *, ttl: float = 60.0, secret: str = SECRET, subject: str = "tester") -> str:
    """A good token."""
    now = datetime.now(UTC)
    return issue(secret.encode(), JwtConfig(), subject=subject, scope=scope, ttl=ttl, now=now)  # type: ignore[arg-type]


@define
class Reply:
    """A reply of the management API."""

    status: int
    headers: Answer
    body: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """The one value of a field."""
        return self.headers.value(name)


@define
class Control:
    """A running gateway, its control plane and a client of it."""

    plane: Plane
    network: MemoryNetwork
    nursery: trio.Nursery
    path: Path
    backends: list[Upstream] = field(factory=list)

    async def fetch(
        self,
        method: str,
        target: str,
        *fields: str,
        body: object = None,
        scope: Scope | None = "write",
        address: Address = ADDRESS,
    ) -> Reply:
        """One request on a connection of its own. A `scope` brings a good token; a mapping goes as JSON."""
        sent = [*fields]
        if not any(line.lower().startswith("host:") for line in sent):
            sent.append(f"Host: {address[0]}:{address[1]}")
        if scope is not None:
            sent.append(f"Authorization: Bearer {token(scope)}")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        caller = LaneCaller(await self.network.connect(*address))
        try:
            answer = await caller.fetch(method, target, *sent, body=data)
        finally:
            caller.vanish()
        return Reply(answer.status, answer, answer.body)

    @property
    def lines(self) -> list[Line]:
        """The access lines so far."""
        log: Any = self.plane.runtime.access_log
        return [Line(*record) for record in log.records]

    async def get(self, target: str, *fields: str, **how: Any) -> Reply:
        """GET."""
        return await self.fetch("GET", target, *fields, **how)

    async def post(self, target: str, *fields: str, **how: Any) -> Reply:
        """POST."""
        return await self.fetch("POST", target, *fields, **how)


class _Late(Random):
    """No check begins by itself while a test runs."""

    def random(self) -> float:
        return 1.0


@asynccontextmanager
async def control(
    folder: Path,
    config: str = CONFIG,
    *,
    role: Role = "shared",
    backends: Mapping[Address, Script] | None = None,
    draining: Sequence[bool] = (False,),
) -> AsyncIterator[Control]:
    """A running gateway whose state and config stand in `folder`; `draining[-1]` is whether it drains."""
    path = folder / "config.yaml"
    path.write_text(config)
    network = MemoryNetwork()
    runtime = Runtime(network, access_log=Lines())  # type: ignore[arg-type]
    loaded = load_config(path, {})
    runtime.apply(loaded.require())
    prober = Prober(runtime, rng=_Late())
    registrations = Registrations(runtime, StateStore(folder / "state"))
    reloader = Reloader(str(path), runtime, defaults=loaded.defaults, digest=digest_of(str(path)), environ={})
    plane = Plane(runtime, prober, reloader, registrations, lambda: draining[-1])
    guard = Guard(lambda: runtime.config, registrations.store.secret)
    guard.check(loaded.config)

    async def serve_exchange(exchange: Exchange) -> None:
        await serve(exchange, runtime)

    ingress = Ingress(serve_exchange, lambda: runtime.config, proxies=role in ("shared", "proxy"))
    management = Management(plane, guard, shown(runtime.config, role))
    app = make_app(lambda: runtime.config, ingress, management)
    server = Server(runtime, HypercornDoor(app, lambda: runtime.config.server, runtime.metrics))
    async with trio.open_nursery() as nursery:
        found = []
        for address, script in (backends or {("127.0.0.1", 9001): answering}).items():
            found.append(Upstream(script))
            await nursery.start(found[-1].serve, network, *address)
        nursery.start_soon(runtime.in_flight.watch_deadlines)
        nursery.start_soon(runtime.run)
        nursery.start_soon(prober.run)
        nursery.start_soon(Watcher(reloader).run)
        nursery.start_soon(server.serve, await open_listeners(network, BindConfig("127.0.0.1:8000")))
        yield Control(plane, network, nursery, path, found)
        nursery.cancel_scope.cancel()
    registrations.store.close()
    runtime.close()
