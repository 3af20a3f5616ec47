"""What a WebSocket may not do, how long it may be silent, and how much of it is held."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.gateway.test_websocket import Other, both
from tests.support.faults import fault
from tests.support.frames import BINARY, CONTINUATION, frame
from tests.support.stage import Door
from tests.support.websocket import Peer, accepting, echo, open_websocket

BROKEN = {
    "a reserved opcode": b"\x83\x00",
    "a length not minimal": b"\x82\x7e\x00\x01x",
    "a continuation of nothing": b"\x80\x01x",
    "a close of one octet": b"\x88\x01x",
    "close code 1006": b"\x88\x02\x03\xee",
}


def by_a_client(bare: bytes) -> bytes:
    """The same frame with a mask of zeros."""
    at = 4 if bare[1] == 126 else 2
    return bare[:1] + bytes([bare[1] | 0x80]) + bare[2:at] + bytes(4) + bare[at:]


# ---- violations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
async def test_a_clients_violation_is_1002_for_both(lane: Door, bad: bytes) -> None:
    """What it said before still arrives, the bad frame does not; nobody's breaker counts it."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await client.link.send(frame(BINARY, b"good", masked=True) + by_a_client(bad))
        assert (await upstream.goodbye() or (0,))[0] == 1002
        assert upstream.reader.messages == [b"good"]
        assert (await client.goodbye() or (0,))[0] == 1002
        await client.end()
        await upstream.end()
        assert await stage.reasons() == ["client_violation"]
        assert stage.target().breaker.failure_count == 0


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
async def test_an_upstreams_violation_is_1002_for_both(lane: Door, bad: bytes) -> None:
    """The same the other way round; it counts as a failure of the upstream."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await upstream.link.send(frame(BINARY, b"good", masked=False) + bad)
        assert await client.message() == b"good"
        assert (await client.goodbye() or (0,))[0] == 1002
        assert (await upstream.goodbye() or (0,))[0] == 1002
        await client.end()
        await upstream.end()
        assert await stage.reasons() == ["upstream_violation"]
        assert stage.target().breaker.failure_count == 1


async def test_masks_are_for_clients_alone(lane: Door) -> None:
    """A client must mask, an upstream must not (RFC 6455 5.1)."""
    for wrong in ("client", "upstream"):
        other = Other()
        async with lane.stage(accepting(other)) as stage:
            client, upstream = await both(stage, other)
            said = frame(BINARY, b"x", masked=wrong == "upstream")
            await (client if wrong == "client" else upstream).link.send(said)
            assert (await client.goodbye() or (0,))[0] == 1002
            other.over.set()
            await client.end()
            assert await stage.reasons() == [f"{wrong}_violation"]


async def test_compression_marks_frames_only_where_it_was_agreed(lane: Door) -> None:
    """RSV1 passes behind a negotiated permessage-deflate and is a violation otherwise."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    compressed = b"\xc1\x03\xf2\x48\xcd"
    for agreed in (b"", b"Sec-WebSocket-Extensions: permessage-deflate"):
        other = Other()
        async with lane.stage(accepting(other, *filter(None, [agreed]))) as stage:
            client, upstream = await both(stage, other, offer)
            await upstream.link.send(compressed)
            data = await client.link.receive()
            assert (data == compressed) is bool(agreed)
            client.link.close()
            other.over.set()


# ---- sizes ------------------------------------------------------------------------------------------


@fault("W5")
@pytest.mark.parametrize("fragments", [1, 8])
@pytest.mark.parametrize("speaker", ["client", "upstream"])
async def test_a_message_too_big_is_1009_for_both(lane: Door, speaker: str, fragments: int) -> None:
    """One of exactly the limit passes; the next octet doesn't, in one frame or in many."""
    other, size = Other(), 8000
    limit = {"websocket": {"max_message_size": size}}
    async with lane.stage(accepting(other), limit) as stage:
        client, upstream = await both(stage, other)
        source, sink = (client, upstream) if speaker == "client" else (upstream, client)
        for payload in (bytes(size), bytes(size + 8)):
            part = len(payload) // fragments
            for n in range(fragments):
                opcode = CONTINUATION if n else BINARY
                await source.send(payload[:part], opcode, fin=n == fragments - 1)
        assert await sink.message() == bytes(size)
        assert (await sink.goodbye() or (0,))[0] == 1009
        assert (await source.goodbye() or (0,))[0] == 1009
        await client.end()
        await upstream.end()
        assert await stage.reasons() == [f"{speaker}_violation"]


@fault("W5")
async def test_the_largest_message_of_the_default_passes(lane: Door) -> None:
    """16 MiB do, and a header that promises more is enough to be refused."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        size = 16 * 1024 * 1024
        head = b"\x82\xff" + size.to_bytes(8, "big") + bytes(4)
        stage.nursery.start_soon(client.link.send, head + bytes(size))
        left = len(head) + size
        while left:
            left -= len(await upstream.link.receive())
        await client.link.send(b"\x82\xff" + (size + 1).to_bytes(8, "big") + bytes(4))
        assert (await client.goodbye() or (0,))[0] == 1009
        other.over.set()
        await client.end()


# ---- silence ----------------------------------------------------------------------------------------

QUIET = {"websocket": {"idle_timeout": "60s"}, "timeout": 5, "timeouts": {"idle": "10s"}}


@pytest.mark.parametrize("speaker", [None, "client", "upstream"])
async def test_silence_in_both_directions_is_1001(lane: Door, speaker: str | None) -> None:
    """Each octet of either side puts it off; no timer of a request has a say."""
    other = Other()
    async with lane.stage(accepting(other), QUIET) as stage:
        client, upstream = await both(stage, other)
        began = trio.current_time()
        if speaker is not None:
            for _ in range(4):
                await trio.sleep(55)
                await (client if speaker == "client" else upstream).send(b"still here")
        assert await client.goodbye() == (1001, "idle")
        assert await upstream.goodbye() == (1001, "idle")
        assert trio.current_time() - began == pytest.approx(60 if speaker is None else 280, abs=0.1)
        await client.end()
        await upstream.end()
        assert await stage.reasons() == ["websocket_idle"]


async def test_the_whole_exchange_may_be_bounded(lane: Door) -> None:
    """`timeouts.total` ends a WebSocket however busy it is, and says so."""
    async with lane.stage(accepting(echo), {"timeouts": {"total": "60s"}}) as stage:
        client = await open_websocket(stage)
        began = trio.current_time()
        while client.reader.close is None:
            await client.send(b"x")
            await client.hear()
            await trio.sleep(1)
        assert trio.current_time() - began == pytest.approx(60, abs=2)
        assert client.reader.close == (1001, "time is up")
        client.link.close()
        assert await stage.reasons() == ["total_timeout"]


# ---- back-pressure ----------------------------------------------------------------------------------


async def until_held(peer: Peer, piece: bytes) -> int:
    """Offer pieces until nobody takes them for a second; octets that were taken."""
    taken = 0
    while True:
        with trio.move_on_after(1) as patience:
            await peer.link.send(piece)
            taken += len(piece)
        if patience.cancelled_caught:
            return taken


@fault("W6")
@pytest.mark.parametrize("speaker", ["client", "upstream"])
async def test_a_reader_that_stalls_stalls_the_speaker(lane: Door, speaker: str) -> None:
    """What is not taken is not read: kernel buffers and one piece are all there is between them."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        source, sink = (client, upstream) if speaker == "client" else (upstream, client)
        piece = frame(BINARY, bytes(60_000), masked=speaker == "client")
        assert await until_held(source, piece) < 2_000_000
        await sink.send(b"the other direction is free")
        assert await source.message() == b"the other direction is free"
        client.link.close()
        other.over.set()


async def test_a_client_that_reads_nothing_is_cut(lane: Door) -> None:
    """Behind `server.timeouts.write`; the upstream is told that its client goes away."""
    other = Other()
    async with lane.stage(accepting(other), server={"timeouts": {"write": "20s"}}) as stage:
        client, upstream = await both(stage, other)
        await until_held(upstream, frame(BINARY, bytes(60_000), masked=False))
        with trio.fail_after(30):
            assert await upstream.goodbye() == (1001, "")
        await trio.sleep(3)
        assert await stage.reasons() == ["client_stalled"]
        client.link.close()
