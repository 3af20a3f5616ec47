"""Section `stalls`: what the control plane's work costs the requests that pass meanwhile.

Three things are done beside 32 clients that keep asking: the metrics of 100 endpoints are read, a file of
1 000 endpoints is read again with one of them changed, and 50 endpoints are registered beside these. The
gateway is `trio-gateway run` on a core of its own. Each row tells how long one took, the longest turn of the
event loop meanwhile with the CPU time of the dearest, and the clients' latency; the first row of a gateway is
what there is without any work: a busy machine shows there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import trio
from attrs import define, field

from bench.soaking.messages import Reader
from tests.e2e.started import GatewayProcess, gateway_process
from trio_gateway.admin.tokens import issue
from trio_gateway.config.model import JwtConfig

STALL = 0.030  # seconds, of one turn of the event loop
P99 = 0.020  # seconds, of a proxied request
RELOAD = 0.100  # seconds from the call to the answer

_CLIENTS = 32
_PACE = 0.06  # seconds from a client's answer to its next request
_FIRST_CHECKS = 6.0  # seconds in which every endpoint gets its first health check
_SECRET = "a secret that is only for this measurement"

Work = Callable[["Rig"], Awaitable[float]]


@define
class Rig:
    """A gateway under load, and the way to its management API."""

    gateway: GatewayProcess
    config: Path
    turns: Path
    endpoints: int
    port: int
    latencies: list[float] = field(factory=list)
    changes: int = 0

    async def call(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The body of a 200."""
        now = datetime.now(UTC)
        token = issue(_SECRET.encode(), JwtConfig(), subject="stalls", scope="write", ttl=60.0, now=now)
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader = Reader(await self.gateway.connect())
        try:
            await reader.link.send(head.encode() + body)
            found = await reader.head()
            assert found is not None
            answer = await reader.body(found[1])
            assert found[0][1] == b"200", answer
            return answer
        finally:
            reader.link.close()

    async def client(self, name: str) -> None:
        """Ask, wait, ask again; until cancelled."""
        request = f"GET /orchestrator/{name}/x HTTP/1.1\r\nHost: stalls\r\n\r\n".encode()
        reader = Reader(await self.gateway.connect())
        while True:
            began = time.perf_counter()
            await reader.link.send(request)
            found = await reader.head()
            assert found is not None
            assert found[0][1] == b"200"
            await reader.body(found[1])
            self.latencies.append(time.perf_counter() - began)
            await trio.sleep(_PACE)

    async def longest_turn(self) -> tuple[float, float]:
        """The longest since this was last asked, and the most CPU time that one took."""
        known = self.turns.read_text().count("\n")
        self.gateway.process.send_signal(signal.SIGUSR1)
        with trio.fail_after(10):
            while self.turns.read_text().count("\n") == known:  # noqa: ASYNC110  a file has no event
                await trio.sleep(0.01)
        longest, most_cpu = json.loads(self.turns.read_text().splitlines()[-1])
        return longest, most_cpu

    def write_config(self) -> None:
        """Write the file anew; one endpoint in the middle is another each time."""
        self.config.write_text(_config(self.port, self.endpoints, self.changes))
        self.changes += 1


def _config(port: int, endpoints: int, change: int) -> str:
    lines = [
        'server: {bind: ["127.0.0.1:0"]}',
        f"admin: {{auth: {{jwt: {{secret: {_SECRET}}}}}}}",
        "endpoints:",
    ]
    for n in range(endpoints):
        lines += [
            f"  - url: http://127.0.0.1:{port}/{n}",
            f"    name: service-{n}",
            "    version: v1",
            "    methods: [GET, POST]",
            f"    health_check_path: /health/{n}",
            f"    timeout: {30 + change if n == endpoints // 2 else 30}",
        ]
    return "\n".join(lines) + "\n"


# ---- the work ---------------------------------------------------------------------------------------


async def nothing(rig: Rig) -> float:  # noqa: ARG001
    """What the clients see without any work."""
    await trio.sleep(0.5)
    return 0.0


async def scrape(rig: Rig) -> float:
    """Read the metrics."""
    began = time.perf_counter()
    await rig.call("GET", "/metrics")
    took = time.perf_counter() - began
    await trio.sleep(0.2)
    return took


async def reload(rig: Rig) -> float:
    """Change one endpoint and have the file read again; until it is answered, so it is in force."""
    rig.write_config()
    began = time.perf_counter()
    answer = json.loads(await rig.call("POST", "/config/reload"))
    took = time.perf_counter() - began
    assert answer["success"], answer
    await trio.sleep(0.2)
    return took


async def register(rig: Rig) -> float:
    """Register an endpoint; its answer comes when it is on disk and serves."""
    rig.changes += 1
    url = f"http://127.0.0.1:{rig.port}/registered/{rig.changes}"
    config = {"url": url, "name": f"registered-{rig.changes}"}
    began = time.perf_counter()
    await rig.call("POST", "/registry/endpoints", json.dumps({"config": config}).encode())
    return time.perf_counter() - began


# ---- the measurement --------------------------------------------------------------------------------


async def stalls() -> list[str]:
    """Run the section; prints a row for each kind of work and returns what missed its limit."""
    print(f"{'work':<24}{'times':>6}{'median':>10}{'longest':>10}{'stall':>10}{'CPU':>8}{'p50':>9}{'p99':>9}"
          "   (ms)")  # fmt: skip
    wrong = []
    async with _rig(100) as rig:
        wrong += await _row(rig, "nothing, 100 endpoints", nothing, 10)
        wrong += await _row(rig, "scrape, 100 endpoints", scrape, 25)
    async with _rig(1000) as rig:
        wrong += await _row(rig, "nothing, 1 000", nothing, 10)
        wrong += await _row(rig, "reload of 1 000", reload, 15, RELOAD)
        wrong += await _row(rig, "register beside 1 000", register, 50)
    return wrong


async def _row(rig: Rig, name: str, work: Work, times: int, limit: float = float("inf")) -> list[str]:
    await work(rig)  # what is only done once is no stall that comes again
    await rig.longest_turn()
    rig.latencies.clear()
    took = [await work(rig) for _ in range(times)]
    latencies, (stall, cpu) = sorted(rig.latencies), await rig.longest_turn()
    p99 = latencies[len(latencies) * 99 // 100]
    usual, most, p50 = median(took), max(took), median(latencies)
    print(f"{name:<24}{times:>6}{usual * 1e3:>10.1f}{most * 1e3:>10.1f}{stall * 1e3:>10.1f}{cpu * 1e3:>8.1f}"
          f"{p50 * 1e3:>9.2f}{p99 * 1e3:>9.2f}   of {len(latencies)} requests", flush=True)  # fmt: skip
    limits = {"median": (usual, limit), "longest stall": (stall, STALL), "proxied p99": (p99, P99)}
    return [
        f"{name}: {what} {seen * 1e3:.1f} ms, {most * 1e3:.0f} allowed"
        for what, (seen, most) in limits.items()
        if seen > most
    ]


@asynccontextmanager
async def _rig(endpoints: int) -> AsyncIterator[Rig]:
    """A gateway with so many endpoints and 32 clients; we and the backend share the other core."""
    stub = await trio.lowlevel.open_process(
        [sys.executable, str(Path(__file__).with_name("stub.py"))], stdout=subprocess.PIPE
    )
    cores = sorted(os.sched_getaffinity(0))
    try:
        assert stub.stdout is not None
        port = int(await stub.stdout.receive_some())
        with tempfile.TemporaryDirectory() as folder:
            async with _running(Path(folder), endpoints, port, cores) as rig:
                yield rig
    finally:
        os.sched_setaffinity(0, cores)
        stub.kill()
        await stub.wait()


@asynccontextmanager
async def _running(folder: Path, endpoints: int, port: int, cores: list[int]) -> AsyncIterator[Rig]:
    turns = folder / "turns.jsonl"
    turns.touch()
    os.environ |= {"SOAK_TURNS": str(turns), "STATE_DIRECTORY": str(folder / "state")}
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    program = (str(Path(__file__).with_name("turns.py")), "run")
    async with gateway_process(
        folder, _config(port, endpoints, 0), program=program, seconds=float("inf")
    ) as gateway:
        if len(cores) > 1:
            os.sched_setaffinity(gateway.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:1])
        rig = Rig(gateway, folder / "gateway.yaml", turns, endpoints, port)
        async with trio.open_nursery() as clients:
            for n in range(_CLIENTS):
                clients.start_soon(rig.client, f"service-{n}")
            await trio.sleep(_FIRST_CHECKS)
            yield rig
            clients.cancel_scope.cancel()
