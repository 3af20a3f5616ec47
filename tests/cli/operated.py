"""A gateway on loopback sockets in the test's own loop, and the command line beside it, in a thread."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import define
from click.testing import Result

from tests.cli.conftest import Call
from tests.support.upstream import Upstream, answering
from trio_gateway.background.state import StateStore
from trio_gateway.config.load import digest_of, load_config
from trio_gateway.observe.logs import configure
from trio_gateway.proxy.network import RealNetwork
from trio_gateway.supervisor import Gateway, Source

FILE = "gateway.yaml"
CONFIG = """
server: {{bind: ["127.0.0.1:0"]}}
state_dir: state
endpoints:
  - {{url: "http://127.0.0.1:{port}/", name: users, version: v1, methods: [GET, POST]}}
  - {{url: "http://127.0.0.1:1/", name: gone, disabled: true}}
"""


@define
class Operated:
    """A running gateway and who operates it. `backend` is the port behind `users`."""

    gateway: Gateway
    backend: int
    _call: Call

    async def run(self, *args: str, **environ: str) -> Result:
        """Call the command line with the gateway's config file."""
        return await self.call(*args, "-c", FILE, **environ)

    async def call(self, *args: str, **environ: str) -> Result:
        """Call the command line."""
        return await trio.to_thread.run_sync(partial(self._call, *args, **environ))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.gateway.addresses[0][1]}"

    async def fetch(self, path: str) -> int:
        """The status of a GET."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(self.url + path)).status_code

    async def told(self, *args: str) -> Any:
        """What a verb prints with `--json` when all is well."""
        result = await self.run(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def write(text: str) -> None:
    """Make this the config file."""
    Path(FILE).write_text(text)


def edit(old: str, new: str) -> None:
    """Change the config file."""
    text = Path(FILE).read_text()
    assert old in text
    write(text.replace(old, new))


@asynccontextmanager
async def operated(call: Call, config: str = CONFIG) -> AsyncIterator[Operated]:
    """A gateway by a config file in the current folder, before one backend."""
    configure("json", "critical", sys.stderr)
    network, upstream = RealNetwork(), Upstream(answering)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, "127.0.0.1", 0)
        write(config.format(port=upstream.address[1]))
        loaded = load_config(FILE)
        source = Source(FILE, loaded.defaults, digest_of(FILE))
        gateway = Gateway(loaded.require(), source=source, store=StateStore(Path("state")))
        await nursery.start(gateway.run)
        yield Operated(gateway, upstream.address[1], call)
        nursery.cancel_scope.cancel()
