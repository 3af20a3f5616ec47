"""Bodies larger than any buffer, through a gateway process: memory, back-pressure, bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from tests.e2e.here import real_world
from tests.e2e.started import GatewayProcess, backend, config, gateway_process, queued
from tests.e2e.streaming import DOORS, PATH, Backend, expected, read_head
from tests.support.client import request
from tests.support.h2client import H2Client, open_h2
from tests.support.upstream import Wire, answering
from trio_gateway.proxy.link import Link

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and queues are read from /proc"),
]

SIZE = int(os.environ.get("STREAM_BYTES", 128 * 1024 * 1024))
GROWTH = 8 * 1024 * 1024
HELD = 256 * 1024
_PIECE = bytes(64 * 1024)
_ENDLESS = 10**11


@pytest.mark.parametrize("door", DOORS)
async def test_a_large_body_costs_no_memory_and_arrives_whole(door: str, tmp_path: Path) -> None:
    """Up and down, a body of any size grows the gateway by less than 8 MiB, and no bit of it changes."""
    client = DOORS[door]
    async with (
        backend(Backend()) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        await client.upload(gateway, 4 * 1024 * 1024)
        await client.download(gateway, 4 * 1024 * 1024)
        gateway.forget_peak()
        before = gateway.resident()
        told = await client.upload(gateway, SIZE)
        up = gateway.peak() - before
        got = await client.download(gateway, SIZE)
        both = gateway.peak() - before
    print(f"{door}: {SIZE >> 20} MiB up +{up / 2**20:.2f} MiB, and down +{both / 2**20:.2f} MiB")
    assert told.decode() == repr(expected(SIZE))
    assert got == expected(SIZE)
    assert both < GROWTH


async def test_a_connection_serves_again_after_an_upload() -> None:
    """A reply that follows the last byte at once finds the request complete: the connection is kept."""
    async with real_world(answering) as world:
        client = await world.client()
        upload = request("/orchestrator/users/x", method="POST", body=bytes(200_000))
        for _ in range(25):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, upload)
                assert (await client.answer("POST")).status == 200
        assert world.backend.connections == 1


# ---- stalled ends -----------------------------------------------------------------------------------


class Flow:
    """One exchange whose receiver stalls: bytes that went in, that came out, and by which ports."""

    def __init__(self, *, up: bool) -> None:
        self.up = up
        self.sent = 0
        self.received = 0
        self.upstream_ports = (0, 0)
        self.client_ports = (0, 0)
        self.begun = trio.Event()

    async def push(self, link: Link) -> None:
        """Send for ever, and count what the kernel took."""
        while True:
            if not (sent := len(_PIECE) - len(link.send_nowait(_PIECE))):
                await trio.lowlevel.wait_writable(link.fileno())
            self.sent += sent
            await trio.lowlevel.checkpoint()

    async def stalled(self) -> None:
        """Wait until nothing moves any more."""
        await self.begun.wait()
        before = -1
        while before != self.sent:
            before = self.sent
            await trio.sleep(0.25)

    def in_kernel(self) -> int:
        """Bytes on the way that stand in one of the four sockets: what is unsent, and what is unread."""
        sender, receiver = (0, 1) if self.up else (1, 0)
        client, upstream = self.client_ports, self.upstream_ports
        return (
            queued(*client)[sender]
            + queued(*client[::-1])[receiver]
            + queued(*upstream[::-1])[sender]
            + queued(*upstream)[receiver]
        )

    def held(self) -> int:
        """Bytes that the gateway itself holds: taken, not delivered."""
        return self.sent - self.received - self.in_kernel()

    async def backend(self, wire: Wire) -> None:
        """Read nothing of an upload, or send more than anybody takes."""
        head, rest = await read_head(wire.link)
        if b"/bystander" in head:
            await wire.reply()
            return
        self.upstream_ports = _ports(wire.link)
        self.received += len(rest)
        self.begun.set()
        if self.up:
            await trio.sleep_forever()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _ENDLESS)
        await self.push(wire.link)


def _ports(link: Link) -> tuple[int, int]:
    return link.local[1], link.peer[1]


async def _lane_upload(link: Link, flow: Flow) -> None:
    await link.send(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (PATH, _ENDLESS))
    await flow.push(link)


async def _lane_download(link: Link, flow: Flow) -> None:
    await link.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % PATH)
    await trio.sleep_forever()


async def _h2_upload(link: Link, flow: Flow) -> None:
    async with open_h2(link) as client:
        stream = await client.request(b"POST", PATH, end=False)
        while size := await client.window(stream):
            await client.send(stream, _PIECE[:size])
            flow.sent += size


async def _h2_closed_window(link: Link, flow: Flow) -> None:
    async with open_h2(link, acknowledge=False) as client:
        stream = await client.request(b"GET", PATH)
        while True:
            await client.change()
            flow.received = len(client.replies[stream].body)


async def _h2_unread_socket(link: Link, flow: Flow) -> None:
    client = await H2Client(link).start(initial_window=2**30)
    await client.open_window(2**30)
    await client.request(b"GET", PATH)
    await trio.sleep_forever()


STALLS = {
    "lane upload": _lane_upload,
    "lane download": _lane_download,
    "h2 upload": _h2_upload,
    "h2 download, closed window": _h2_closed_window,
    "h2 download, unread socket": _h2_unread_socket,
}


@pytest.mark.parametrize("stall", STALLS)
async def test_a_stalled_receiver_is_not_read_ahead_of(stall: str, tmp_path: Path) -> None:
    """With the receiver stalled the gateway holds less than 256 KiB, and goes on serving others."""
    flow = Flow(up="upload" in stall)
    async with (
        backend(flow.backend) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
        trio.open_nursery() as nursery,
    ):
        await _bystander(gateway)
        gateway.forget_peak()
        before = gateway.resident()
        link = await gateway.connect()
        flow.client_ports = _ports(link)
        nursery.start_soon(STALLS[stall], link, flow)
        await flow.stalled()
        print(f"{stall}: {flow.sent} sent, {flow.in_kernel()} in the kernel, {flow.held()} held")
        assert flow.held() < HELD
        await _bystander(gateway)
        assert gateway.peak() - before < GROWTH
        nursery.cancel_scope.cancel()
        link.abort()  # a FIN would stand behind the bytes that nobody takes


async def _bystander(gateway: GatewayProcess) -> None:
    client = await gateway.client()
    answer = await client.get("/orchestrator/users/bystander")
    client.link.close()
    assert answer.status == 200
