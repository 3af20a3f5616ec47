"""Who is slow holds up nobody else, and no more than a bound of bytes in the gateway."""

from __future__ import annotations

import hashlib
import socket

import pytest
import trio
from attrs import define, field

from tests.support.doors import Call, Cut, push
from tests.support.faults import fault
from tests.support.stage import USERS, Door, silent
from tests.support.upstream import Wire

DOORS = ("lane", "h2", "lane-tls", "h2-tls")

BOUND = 256 * 1024  # bytes taken from one side and not delivered to the other
PIECE = 16 * 1024
AT_ONCE = 0.01


def kernel_buffer() -> int:
    """How many bytes one connection of the memory network holds in one direction."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        here.setblocking(False)
        held = 0
        try:
            while True:
                held += here.send(b"x" * PIECE)
        except BlockingIOError:
            return held


@define
class Meter:
    """A backend that reads or writes without end and counts."""

    sent: int = 0
    taken: int = 0
    go_on: trio.Event = field(factory=trio.Event)

    async def flood(self, wire: Wire) -> None:
        """Send for ever."""
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await wire.send(b"x" * PIECE)
            self.sent += PIECE

    async def read_when_told(self, wire: Wire) -> None:
        """Read nothing until `go_on`."""
        await self.go_on.wait()
        await wire.request()
        await wire.reply()
        await wire.closed()


@define
class Sender:
    """A client that uploads without end and counts."""

    sent: int = 0

    async def flood(self, call: Call, size: int = 1_000_000_000) -> None:
        """Send until nobody takes more."""
        try:
            while self.sent < size:
                await call.send(b"x" * PIECE)
                self.sent += PIECE
        except Cut:
            pass


@fault("C4")
@pytest.mark.parametrize("pieces", [0, 1, 20])
async def test_a_client_that_stops_reading_stops_the_backend(door: Door, pieces: int) -> None:
    """What was taken and not delivered stays under 256 KiB, beside what the kernel holds."""
    meter = Meter()
    async with door.stage(meter.flood) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        read = 0
        for _ in range(pieces):
            read += len(await call.piece() or b"")
        await trio.sleep(20)
        assert meter.sent - read < BOUND + 2 * kernel_buffer() + PIECE
        before = meter.sent
        await trio.sleep(5)
        assert meter.sent == before
        assert len(stage.gateway.runtime.in_flight) == 1


@fault("C5")
async def test_a_backend_that_stops_reading_stops_the_client(door: Door) -> None:
    """The same on the way up; and nothing is lost when it goes on."""
    meter, sender = Meter(), Sender()
    size = 250 * PIECE
    async with door.stage(meter.read_when_told) as stage:
        call = await stage.open("POST", USERS, length=size)
        stage.nursery.start_soon(sender.flood, call, size)
        await trio.sleep(20)
        assert sender.sent <= BOUND + 2 * kernel_buffer() + PIECE
        assert sender.sent < size / 2
        meter.go_on.set()
        await trio.sleep(1)
        assert (await call.answer()).status == 200
        assert sender.sent == size


@fault("C5")
async def test_a_slow_backend_is_never_far_behind_its_client(door: Door) -> None:
    """All along a long upload, byte for byte what was sent, and never more than the bound on the way."""
    sender = Sender()
    size, delivered, most = 200 * PIECE, 0, 0
    digest = hashlib.sha256()

    async def slow(wire: Wire) -> None:
        nonlocal delivered, most
        await wire.head()
        data = wire.raw.partition(b"\r\n\r\n")[2]
        while True:
            digest.update(data)
            delivered += len(data)
            most = max(most, sender.sent - delivered)
            if delivered == size:
                break
            await trio.sleep(0.01)
            data = await wire.link.receive(8192)
        await wire.reply()
        await wire.closed()

    async with door.stage(slow) as stage:
        call = await stage.open("POST", USERS, length=size)
        stage.nursery.start_soon(sender.flood, call, size)
        answer = await call.answer()
        assert answer.status == 200
        assert digest.digest() == hashlib.sha256(b"x" * size).digest()
        assert most < BOUND + 2 * kernel_buffer() + PIECE


async def test_a_slow_client_gets_all_of_a_long_reply(door: Door) -> None:
    """Byte for byte, while the backend is held back."""
    data = hashlib.shake_128(b"long").digest(3_000_000)
    sent = 0

    async def long(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for at in range(0, len(data), PIECE):
            await wire.send(data[at : at + PIECE])
            sent += PIECE
        await wire.closed()

    async with door.stage(long) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        body, most = bytearray(), 0
        while (piece := await call.piece()) is not None:
            body += piece
            most = max(most, sent - len(body))
            await trio.sleep(0.05)
        assert body == data
        assert most < BOUND + 2 * kernel_buffer() + 2 * PIECE


@fault("C4")
async def test_fifty_clients_that_never_read_cost_a_bound_each(door: Door) -> None:
    """Others are served as ever, and those who stall are cut at the write timer."""
    meter = Meter()
    async with door.stage(meter.flood, server={"timeouts": {"write": 10}}) as stage:
        for _ in range(50):
            await stage.open("GET", USERS)
        await trio.sleep(9)
        assert len(stage.gateway.runtime.in_flight) == 50
        assert meter.sent < 50 * (BOUND + 2 * kernel_buffer() + PIECE)
        begun = trio.current_time()
        call = await stage.open("GET", USERS)
        assert (await call.head()).status == 200
        assert trio.current_time() - begun < AT_ONCE
        await call.leave()
        await trio.sleep(1.5)
        assert len(stage.gateway.runtime.in_flight) == 0
        assert sorted(await stage.reasons()) == ["client_gone"] + ["client_stalled"] * 50


@fault("D7")
async def test_a_stalled_stream_holds_up_no_neighbour(h2: Door) -> None:
    """Stalled downwards or upwards, its connection serves others; reset, it frees its upstream at once."""
    meter = Meter()
    async with h2.stage(
        meter.flood, others=[{"url": "http://deaf.example/", "name": "deaf", "methods": ["POST"]}]
    ) as stage:
        await stage.serve(Meter().read_when_told, "deaf.example")
        await stage.serve(silent, "other.example")
        caller = await stage.connect()
        down = await caller.open("GET", USERS)
        up = await caller.open("POST", "/orchestrator/deaf", length=10_000_000)
        stage.nursery.start_soon(push, up, b"x" * PIECE, 1000)
        await down.head()
        await trio.sleep(2)
        begun = trio.current_time()
        assert (await caller.fetch("GET", "/orchestrator/nobody")).status == 404
        third = await caller.open("GET", USERS)
        assert (await third.head()).status == 200
        assert trio.current_time() - begun < 0.05
        for call in (down, up, third):
            await call.leave()
        await trio.sleep(0.1)
        assert stage.open_upstream() == 0


# ---- at once ------------------------------------------------------------------------------------------


@fault("U8")
@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n"])
async def test_a_head_and_each_event_arrive_when_they_are_sent(door: Door, framing: bytes) -> None:
    """Nothing waits for more to come: neither the head without a body, nor an event."""
    said: list[float] = []

    async def events(wire: Wire) -> None:
        async def say(data: bytes) -> None:
            await trio.sleep(7)
            said.append(trio.current_time())
            await wire.send(b"%x\r\n%b\r\n" % (len(data), data) if framing else data)

        await wire.request()
        await trio.sleep(3)
        said.append(trio.current_time())
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n" % framing)
        for n in range(5):
            await say(b"data: %d\n\n" % n)
        await wire.closed()

    async with door.stage(events) as stage:
        call = await stage.open("GET", USERS)
        assert (await call.head()).value("content-type") == "text/event-stream"
        heard = [trio.current_time()]
        for n in range(5):
            assert await call.piece() == b"data: %d\n\n" % n
            heard.append(trio.current_time())
        assert all(at - when < AT_ONCE for at, when in zip(heard, said, strict=True))


async def test_each_piece_of_an_upload_arrives_when_it_is_sent(door: Door) -> None:
    """So it is on the way up, the head first."""
    heard: list[tuple[float, bytes]] = []

    async def listening(wire: Wire) -> None:
        await wire.head()
        heard.append((trio.current_time(), b""))
        while data := await wire.link.receive():
            heard.append((trio.current_time(), data))

    async with door.stage(listening) as stage:
        said = [trio.current_time()]
        call = await stage.open("POST", USERS, length=50_000)
        for n in range(5):
            await trio.sleep(7)
            said.append(trio.current_time())
            await call.send(b"%d" % n * 2000)
        await trio.sleep(1)
        await call.leave()
        assert [data for _, data in heard] == [b"", *(b"%d" % n * 2000 for n in range(5))]
        assert all(at - when < AT_ONCE for (at, _), when in zip(heard, said, strict=True))
