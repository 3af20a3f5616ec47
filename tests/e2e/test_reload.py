"""The config file of a running process edited in every way, under load, with a stream that stays open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.e2e.started import GatewayProcess, backend, config, gateway_process
from tests.support.client import RawClient
from tests.support.upstream import Wire

pytestmark = pytest.mark.alone

IN_TIME = 2.0  # seconds
CLIENTS = 32
USERS = "/orchestrator/users"


async def slowly(wire: Wire) -> None:
    """A reply after 20 ms, so that some are under way at each swap; or a stream without an end."""
    while True:
        request = await wire.request()
        if request.target != b"/stream":
            await trio.sleep(0.02)
            await wire.reply(b"ok")
            continue
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.send(b"4\r\ntick\r\n")
            await trio.sleep(0.05)


async def keep_asking(client: RawClient, statuses: set[int]) -> None:
    try:
        while True:
            statuses.add((await client.get(USERS + "/x")).status)
    finally:
        client.link.close()


def edited_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def renamed_over(path: Path, text: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def link_swapped(path: Path, text: str) -> None:
    (path.parent / "other").write_text(text)
    link = path.with_name("link")
    link.symlink_to("other")
    link.rename(path)


async def picked_up(gateway: GatewayProcess, name: str) -> float:
    """How long it takes until an endpoint answers."""
    began, client = trio.current_time(), await gateway.client()
    with trio.fail_after(10 * IN_TIME):
        while (await client.get(f"/orchestrator/{name}/x")).status != 200:  # noqa: ASYNC110  asked from outside
            await trio.sleep(0.02)
    client.link.close()
    return trio.current_time() - began


async def test_an_edit_is_in_force_within_two_seconds_and_costs_no_request(tmp_path: Path) -> None:
    """In place, by rename and by a swapped link: no request fails, and the open stream goes on."""
    ways: list[Callable[[Path, str], None]] = [edited_in_place, renamed_over, link_swapped]
    async with backend(slowly) as upstream:
        port = upstream.address[1]
        text = config(port)
        async with gateway_process(tmp_path, text) as gateway, trio.open_nursery() as nursery:
            statuses: set[int] = set()
            for _ in range(CLIENTS):
                nursery.start_soon(keep_asking, await gateway.client(), statuses)
            stream = await gateway.client()
            await stream.send(b"GET /orchestrator/users/stream HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.head()).status == 200
            for number, way in enumerate(ways):
                name = f"fresh-{number}"
                text += f"  - {{url: 'http://127.0.0.1:{port}/', name: {name}}}\n"
                way(tmp_path / "gateway.yaml", text)
                assert await picked_up(gateway, name) < IN_TIME
                assert await stream.piece()
            assert statuses == {200}
            assert {line["status"] for line in gateway.lines() if line["endpoint"] == "users"} == {200}
            stream.link.close()
            nursery.cancel_scope.cancel()
