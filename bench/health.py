"""What the health nursery costs: the CPU of a process that does nothing but check many endpoints.

    .venv/bin/python bench/health.py [--endpoints 1000] [--interval 5] [--seconds 30] [--core 1]

The backend is a process of its own; each check is a fresh connection over loopback and an HTTP request by
the default probe. First comes one interval without measuring, in which every endpoint gets its first check.
CPU is user and system time of the checking process alone. The claim: under 20 % of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time

import trio

from trio_gateway.background.prober import Prober
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.observe.metrics import CheckResult
from trio_gateway.proxy.network import RealNetwork
from trio_gateway.proxy.runtime import Runtime

CLAIM = 20.0  # percent of a core
_BODY = b'{"status":"ok"}'
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    % len(_BODY)
    + _BODY
)


class Healthy(asyncio.Protocol):
    """Answers the first bytes of a connection and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """See asyncio."""
        self.transport.write(_REPLY)  # type: ignore[attr-defined]
        self.transport.close()


async def backend() -> None:
    """Serve on a free loopback port, and print it."""
    server = await asyncio.get_running_loop().create_server(Healthy, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def config(port: int, endpoints: int, interval: float) -> GatewayConfig:
    """So many endpoints of one backend, each with a path of its own."""
    lines = [
        f"  - {{name: e{n}, url: 'http://127.0.0.1:{port}/{n}', health_check_path: /health/{n}}}"
        for n in range(endpoints)
    ]
    text = "\n".join([f"health_check: {{interval: {interval}}}", "endpoints:", *lines])
    return parse_config(text, "bench", {}).require()


async def measure(port: int, asked: argparse.Namespace) -> bool:
    """Check, print what it took, and tell whether the claim holds."""
    runtime = Runtime(RealNetwork())
    runtime.apply(config(port, asked.endpoints, asked.interval))
    prober = Prober(runtime)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prober.run)
        await trio.sleep(max(asked.interval, 5.0))
        before, cpu, began = counted(runtime), time.process_time(), time.perf_counter()
        await trio.sleep(asked.seconds)
        checks = counted(runtime) - before
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        nursery.cancel_scope.cancel()
    share = 100 * cpu / wall
    failed = counted(runtime) - counted(runtime, "passed")
    print(f"{asked.endpoints} endpoints, a check each {asked.interval:g} s, {wall:.1f} s measured")
    print(f"{checks} checks, {failed} failed, {1e6 * cpu / checks:.0f} us of CPU a check")
    sound = failed == 0 and checks > 0.9 * asked.endpoints * asked.seconds / asked.interval
    verdict = "not shown, checks are missing" if not sound else "shown" if share < CLAIM else "NOT met"
    print(f"{share:.1f} % of a core. Claim (under {CLAIM:g} %): {verdict}")
    return sound and share < CLAIM


def counted(runtime: Runtime, result: CheckResult | None = None) -> int:
    """All checks so far, or those of one result."""
    checks = [stats.checks for stats in runtime.metrics.endpoints().values()]
    return sum(sum(each.values()) if result is None else each.get(result, 0) for each in checks)


def main() -> None:
    """Run the backend beside us for as long as it takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--backend", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.backend:
        asyncio.run(backend())
        return
    serving = subprocess.Popen([sys.executable, __file__, "--backend"], stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        port = int(serving.stdout.readline())
        os.sched_setaffinity(0, {asked.core})
        met = trio.run(measure, port, asked)
    finally:
        serving.terminate()
        serving.wait()
    sys.exit(not met)


if __name__ == "__main__":
    main()
