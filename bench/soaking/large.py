"""Section `streams`: bodies of a GiB, up and down, through both doors."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.e2e.started import GatewayProcess, backend, config, gateway_process
from tests.e2e.streaming import DOORS, Backend, Door, expected

_GROWTH = 8 * 1024 * 1024
_WARM_UP = 4 * 1024 * 1024


async def stream(size: int) -> list[str]:
    """Run the section; prints the growth of the gateway's memory and returns what was wrong."""
    wrong = []
    digest = expected(size)
    for name, door in DOORS.items():
        with tempfile.TemporaryDirectory() as folder:
            async with (
                backend(Backend()) as upstream,
                gateway_process(Path(folder), config(upstream.address[1]), seconds=1800) as gateway,
            ):
                wrong += await _both_ways(name, door, gateway, size, digest)
    return wrong


async def _both_ways(
    name: str, door: Door, gateway: GatewayProcess, size: int, digest: tuple[int, str]
) -> list[str]:
    await door.upload(gateway, _WARM_UP)
    await door.download(gateway, _WARM_UP)
    wrong = []
    for way in ("upload", "download"):
        gateway.forget_peak()
        before, began = gateway.resident(), time.perf_counter()
        if way == "upload":
            same = (await door.upload(gateway, size)).decode() == repr(digest)
        else:
            same = await door.download(gateway, size) == digest
        grown = gateway.peak() - before
        rate = size / 2**20 / (time.perf_counter() - began)
        print(f"{name} {way}: {size / 2**20:.0f} MiB at {rate:.0f} MiB/s, memory +{grown / 2**20:.2f} MiB, "
              f"bytes {'identical' if same else 'CHANGED'}")  # fmt: skip
        if not same or grown >= _GROWTH:
            wrong.append(f"{name} {way}: +{grown} bytes, identical: {same}")
    return wrong
