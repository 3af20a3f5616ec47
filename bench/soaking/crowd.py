"""Section `clients`: 500 kept connections against 32, in rounds one after the other; medians count.

wrk makes the load where it is found, a client of our own elsewhere. The backend is a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import trio
from attrs import define

from bench.soaking.messages import CutError, Reader
from tests.e2e.started import GatewayProcess, config, gateway_process

_FEW, _MANY = 32, 500
_ROUNDS = 3
_LOSS = 0.2
_REQUEST = b"GET /orchestrator/users/x HTTP/1.1\r\nHost: soak\r\n\r\n"
_BENCH = Path(__file__).parents[1]


@define
class Rate:
    """One round: requests a second, and errors of any kind."""

    rate: float
    errors: int


async def crowd(seconds: int) -> list[str]:
    """Run the section; prints rates and returns what was wrong."""
    stub = await trio.lowlevel.open_process(
        [sys.executable, str(Path(__file__).with_name("stub.py"))], stdout=subprocess.PIPE
    )
    try:
        assert stub.stdout is not None
        port = int(await stub.stdout.receive_some())
        with tempfile.TemporaryDirectory() as folder:
            async with gateway_process(Path(folder), config(port), seconds=1800) as gateway:
                return await _rounds(gateway, seconds)
    finally:
        stub.kill()
        await stub.wait()


async def _rounds(gateway: GatewayProcess, seconds: int) -> list[str]:
    load = _wrk if shutil.which("wrk") else _own
    await load(gateway, _FEW, 1)
    rounds: dict[int, list[Rate]] = {_FEW: [], _MANY: []}
    for _ in range(_ROUNDS):
        for clients, seen in rounds.items():
            seen.append(await load(gateway, clients, seconds))
    few, many = (median(rate.rate for rate in rounds[clients]) for clients in (_FEW, _MANY))
    errors = sum(rate.errors for seen in rounds.values() for rate in seen)
    print(f"{load.__name__.strip('_')}: {few:.0f}/s with {_FEW} clients, {many:.0f}/s with {_MANY} "
          f"({many / few - 1:+.1%}), {errors} errors")  # fmt: skip
    wrong = [f"{errors} errors"] if errors else []
    return wrong + ([f"{many:.0f}/s is less than {few:.0f}/s by a fifth"] if many < few * (1 - _LOSS) else [])


async def _wrk(gateway: GatewayProcess, clients: int, seconds: int) -> Rate:
    url = f"http://127.0.0.1:{gateway.port}/orchestrator/users/x"
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}",
        "--timeout",
        "10s",
        "-s",
        str(_BENCH / "wrk.lua"),
        url,
    ]
    done = await trio.run_process([*command, "--", "GET", "0"], capture_stdout=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(b"RESULT "))
    seen = json.loads(line.removeprefix(b"RESULT "))
    errors = sum(seen[name] for name in ("connect", "read", "write", "timeout", "status"))
    return Rate(seen["requests"] / seen["seconds"], errors)


async def _own(gateway: GatewayProcess, clients: int, seconds: int) -> Rate:
    """Each client asks again as soon as it was answered."""
    total, errors = 0, 0

    async def client() -> None:
        nonlocal total, errors
        reader = Reader(await gateway.connect())
        while time.perf_counter() < end:
            await reader.link.send(_REQUEST)
            try:
                found = await reader.head()
                assert found is not None
                await reader.body(found[1])
            except (CutError, AssertionError):
                errors += 1
                break
            errors += found[0][1] != b"200"
            total += 1
        reader.link.close()

    began = time.perf_counter()
    end = began + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)
    return Rate(total / (time.perf_counter() - began), errors)
