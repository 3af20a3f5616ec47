"""Section `slow`: 1 000 connections that take as long as they are let, and 16 clients that want their answer.

The slow ones are a process of their own, which begins each connection anew when the gateway has ended it; so
is the good clients' backend. The slow ones' endpoint is not the good ones': a streamed body holds a place in
its endpoint's pool, and `pool.max_connections` is what keeps one endpoint from the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import quantiles

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.soaking.messages import CutError, Reader
from tests.e2e.started import GatewayProcess, config, gateway_process
from tests.support.slow import ATTACKS, flowing, held
from trio_gateway.proxy.network import RealNetwork

_SLOW, _GOOD = 1000, 16
_PAUSE = 0.01  # seconds between a good client's requests
_WARM = 12.0  # seconds: the first of each kind have been ended by then
_LONGEST_P99 = 0.05
_REQUEST = b"GET /orchestrator/users/x HTTP/1.1\r\nHost: soak\r\n\r\n"


async def slow(seconds: int) -> list[str]:
    """Run the section; prints latencies and returns what was wrong."""
    async with _beside("stub.py") as stub, _beside("slow.py") as crowd:
        ports = [int(await process.stdout.receive_some()) for process in (stub, crowd)]  # type: ignore[union-attr]
        more = f"""
  - {{url: "http://127.0.0.1:{ports[1]}/", name: slow, methods: [GET, POST]}}
"""
        with tempfile.TemporaryDirectory() as folder:
            text = config(ports[0]).rstrip() + more
            async with gateway_process(Path(folder), text, seconds=600) as gateway:
                alone = await _latencies(gateway, seconds)
                assert crowd.stdin is not None
                await crowd.stdin.send_all(b"%d\n" % gateway.port)
                await trio.sleep(_WARM)
                descriptors = gateway.descriptors()
                beset = await _latencies(gateway, 5 * seconds)
                crowd.terminate()
                assert crowd.stdout is not None
                told = b"".join([data async for data in crowd.stdout])
                ended = Counter(json.loads(told))
                return _judged(alone, beset, descriptors, ended)


def _judged(alone: list[float], beset: list[float], descriptors: int, ended: Counter[str]) -> list[str]:
    wrong = []
    for name, seen in (("alone", alone), ("beset", beset)):
        good = [each for each in seen if each >= 0]
        marks = quantiles(good, n=1000)
        p50, p99 = marks[499], marks[989]
        print(f"{name}: {len(good)} requests, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, "
              f"longest {max(good) * 1e3:.1f} ms, {len(seen) - len(good)} failed")  # fmt: skip
        wrong += [f"{len(seen) - len(good)} failed {name}"] if len(good) < len(seen) else []
    if p99 > _LONGEST_P99:
        wrong.append(f"p99 {p99:.3f} s")
    if descriptors < _SLOW:
        wrong.append(f"only {descriptors} descriptors were open")
    print(f"{descriptors} descriptors; ended by the gateway: {dict(ended)}")
    return wrong + [f"none of {kind} was ended" for kind in ATTACKS if not ended[kind]]


async def _latencies(gateway: GatewayProcess, seconds: int) -> list[float]:
    """Of the good clients' requests; -1 for one that failed."""
    seen: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader = Reader(await gateway.connect())
        while time.perf_counter() < end:
            began = time.perf_counter()
            try:
                await reader.link.send(_REQUEST)
                found = await reader.head()
                good = found is not None and found[0][1] == b"200"
                if found is not None:
                    await reader.body(found[1])
            except (CutError, OSError):
                good = False
            seen.append(time.perf_counter() - began if good else -1)
            if not good:
                break
            await trio.sleep(_PAUSE)
        reader.link.close()

    async with trio.open_nursery() as nursery:
        for _ in range(_GOOD):
            nursery.start_soon(client)
    return seen


@asynccontextmanager
async def _beside(name: str) -> AsyncIterator[trio.Process]:
    """A program of this folder, until the block ends."""
    command = [sys.executable, str(Path(__file__).with_name(name))]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


# ---- the slow ones ----------------------------------------------------------------------------------


async def attack() -> None:
    """Print the port of their backend, read the gateway's, attack until SIGTERM, print who was ended."""
    network, ended = RealNetwork(), Counter[str]()

    async def serve() -> None:
        while True:
            nursery.start_soon(flowing, await listener.accept())

    async def hold(kind: str) -> None:
        while True:
            await held(ATTACKS[kind], await network.connect("127.0.0.1", port))
            ended[kind] += 1

    (listener,) = await network.listen("127.0.0.1", 0)
    print(listener.address[1], flush=True)
    port = int(await trio.to_thread.run_sync(sys.stdin.readline))
    with trio.open_signal_receiver(15) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            for _, kind in zip(range(_SLOW), cycle(ATTACKS), strict=False):
                nursery.start_soon(hold, kind)
                await trio.sleep(0.002)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    trio.run(attack)
