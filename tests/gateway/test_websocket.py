"""WebSockets through the lane: everything passes as it is, and every end tells both sides."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.gateway.test_reload import reload
from tests.support.faults import fault
from tests.support.frames import BINARY, CONTINUATION, PING, PONG, TEXT
from tests.support.stage import USERS, Door, Stage
from tests.support.upstream import Wire
from tests.support.websocket import (
    FIELDS,
    Peer,
    accept,
    accepting,
    echo,
    echo_and_close,
    handshake,
    open_websocket,
)

SOON = 0.1


class Other:
    """The upstream's end of a test's WebSocket, once it is open."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.over = trio.Event()
        self.peer: Peer

    async def __call__(self, peer: Peer) -> None:
        """Hand the peer over and keep its connection until `over`."""
        self.peer = peer
        self.opened.set()
        await self.over.wait()


async def both(stage: Stage, other: Other, *fields: str) -> tuple[Peer, Peer]:
    """Client and upstream of a new WebSocket."""
    client = await open_websocket(stage, *fields)
    await other.opened.wait()
    return client, other.peer


# ---- what passes ------------------------------------------------------------------------------------


@fault("W5")
async def test_messages_pass_both_ways(lane: Door) -> None:
    """Text, binary, empty ones, fragments, and sizes of each encoding come back as they went."""
    async with lane.stage(accepting(echo_and_close)) as stage:
        client = await open_websocket(stage)
        for payload in (b"hello", b"", b"x" * 126, b"y" * 70_000):
            await client.send(payload, BINARY)
            assert await client.message() == payload
        await client.send(b"one ", TEXT, fin=False)
        await client.send(b"two", CONTINUATION)
        assert await client.message() == b"one two"
        await client.close(1000, b"done")
        assert await client.goodbye() == (1000, "done")
        await client.end()
        (line,) = await stage.lines()
        assert (line.status, line.reason, line.door) == (101, "completed", "lane")
        assert line.received > 70_000
        assert line.sent > 70_000


async def test_pings_pass_to_the_other_end(lane: Door) -> None:
    """They are the endpoints' own: the gateway neither answers nor makes any."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await client.send(b"are you there", PING)
        await upstream.hear()
        await upstream.send(b"are you there", PONG)
        await client.hear()
        assert [(each.opcode, each.payload) for each in upstream.reader.frames] == [(PING, b"are you there")]
        assert [(each.opcode, each.payload) for each in client.reader.frames] == [(PONG, b"are you there")]


async def test_a_frame_passes_before_it_is_whole(lane: Door) -> None:
    """A piece of a payload goes on when it comes."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await upstream.link.send(b"\x81\x05he")
        assert await client.link.receive() == b"\x81\x05he"
        await upstream.link.send(b"llo")
        assert await client.link.receive() == b"llo"


async def test_bytes_behind_either_handshake_come_first(lane: Door) -> None:
    """What was sent along with a handshake keeps its place before all that follows."""
    early = b"\x82\x83\x00\x00\x00\x00one"
    async with lane.stage(accepting(echo, behind=b"\x82\x05first")) as stage:
        client = await open_websocket(stage, behind=early)
        await client.send(b"two")
        assert [await client.message() for _ in range(3)] == [b"first", b"one", b"two"]


async def test_a_connection_carries_nothing_behind_a_websocket(lane: Door) -> None:
    """The upstream's is new for each and never pooled; the client's ends."""
    async with lane.stage(accepting(echo_and_close)) as stage:
        for _ in range(3):
            client = await open_websocket(stage)
            await client.close(1000)
            assert await client.goodbye() == (1000, "")
            await client.end()
        assert stage.backend.connections == 3
        assert stage.target().pool.statistics().idle == 0


# ---- goodbyes ---------------------------------------------------------------------------------------


@fault("W2")
async def test_goodbyes_pass_with_code_and_reason(lane: Door) -> None:
    """Whoever begins, the other hears it and its answer comes back."""
    for code, reason in ((1000, b""), (4001, b"try later"), (None, b""), (1011, b"oops")):
        for begins in ("client", "upstream"):
            other = Other()
            async with lane.stage(accepting(other)) as stage:
                client, upstream = await both(stage, other)
                first, second = (client, upstream) if begins == "client" else (upstream, client)
                await first.close(code, reason)
                assert await second.goodbye() == (code or 1005, reason.decode())
                await second.close(4999, b"bye")
                assert await first.goodbye() == (4999, "bye")
                await client.end()
                await upstream.end()
                assert await stage.reasons() == ["completed"]


async def test_messages_behind_the_clients_goodbye_still_reach_it(lane: Door) -> None:
    """The upstream may finish what it was saying before it answers (RFC 6455 5.5.1)."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await client.close(1000)
        await upstream.goodbye()
        await trio.sleep(1)
        await upstream.send(b"one more thing")
        await upstream.close(1000)
        assert await client.message() == b"one more thing"
        assert await client.goodbye() == (1000, "")


async def test_a_goodbye_without_an_answer_is_answered_by_us(lane: Door) -> None:
    """After some seconds, with its own code; nobody waits for ever."""
    for begins in ("client", "upstream"):
        other = Other()
        async with lane.stage(accepting(other)) as stage:
            client, upstream = await both(stage, other)
            first = client if begins == "client" else upstream
            began = trio.current_time()
            await first.close(4002)
            assert await first.goodbye() == (4002, "")
            assert 2 < trio.current_time() - began < 6
            await first.end()
            await trio.sleep(3)  # the other one is still there
            assert await stage.reasons() == ["completed"]


# ---- departures -------------------------------------------------------------------------------------


@fault("W2")
async def test_an_upstream_that_vanishes_is_1011(lane: Door) -> None:
    """1006 stands for it in no frame; the breaker counts one more failure."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        upstream.link.close()
        assert await client.goodbye() == (1011, "")
        await client.end()
        (line,) = await stage.lines()
        assert (line.status, line.reason) == (101, "upstream_truncated")
        assert stage.target().breaker.failure_count == 1


async def test_an_upstream_that_vanishes_inside_a_frame_is_a_cut(lane: Door) -> None:
    """No close frame can stand inside a payload: the client's connection just ends."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await upstream.link.send(b"\x82\x7e\x01\x00only this")
        await trio.testing.wait_all_tasks_blocked()
        upstream.link.close()
        assert await client.goodbye() is None
        assert await stage.reasons() == ["upstream_truncated"]


@fault("W2")
async def test_a_client_that_vanishes_is_1001(lane: Door) -> None:
    """The upstream hears it at once, and its connection ends; that is nobody's failure."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await trio.sleep(3)
        client.link.close()
        with trio.fail_after(SOON):
            assert await upstream.goodbye() == (1001, "")
            await upstream.end()
        other.over.set()
        await trio.sleep(SOON)
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["client_gone"]
        assert stage.target().breaker.failure_count == 0


async def test_what_a_client_said_before_it_vanished_arrives(lane: Door) -> None:
    """Its last message and its goodbye are not lost to the connection's end right behind them."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, upstream = await both(stage, other)
        await trio.sleep(3)
        await client.send(b"my last words")
        await client.close(4000, b"gone")
        client.link.close()
        assert await upstream.message() == b"my last words"
        assert await upstream.goodbye() == (4000, "gone")
        await upstream.end()
        assert await stage.reasons() == ["completed"]


async def test_an_upstream_that_stalls_behind_a_departure_is_not_waited_for(lane: Door) -> None:
    """What the client has sent is on its way for some seconds, and not for `idle_timeout`."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, _ = await both(stage, other)
        await client.send(bytes(400_000), BINARY)
        client.link.close()
        await trio.sleep(8)
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["client_gone"]


async def test_a_client_that_leaves_a_stalled_upstream_does_not_go_unseen(lane: Door) -> None:
    """Its bytes are not read while the upstream takes nothing, and that does not change: it ends."""
    other = Other()
    async with lane.stage(accepting(other)) as stage:
        client, _ = await both(stage, other)
        with trio.move_on_after(3):
            while True:
                await client.send(bytes(50_000), BINARY)
        client.link.close()
        await trio.sleep(8)
        assert stage.open_upstream() == 0
        assert await stage.reasons() == ["client_gone"]


# ---- while the gateway changes or stops -------------------------------------------------------------


async def test_a_reload_leaves_open_websockets_alone(lane: Door) -> None:
    """Of endpoints that stay, that change, and that go: they keep what they began with."""
    gone = {"url": "http://backend.example/", "name": "gone"}
    async with lane.stage(accepting(echo_and_close), others=[gone]) as stage:
        targets = [USERS] * 100 + ["/orchestrator/gone"] * 100
        clients = [await open_websocket(stage, target=target) for target in targets]
        reload(stage, {"websocket": {"max_message_size": 10}, "timeout": 3})
        await trio.sleep(400 / 2)
        for client in clients:
            await client.send(b"longer than ten bytes")
            assert await client.message() == b"longer than ten bytes"
        refused = await stage.fetch("GET", "/orchestrator/gone", *FIELDS)
        assert refused.status == 404
        late = await open_websocket(stage)
        await late.send(b"longer than ten bytes")
        assert (await late.goodbye() or (0,))[0] == 1009
        for client in clients:
            await client.close(1000)
            assert await client.goodbye() == (1000, "")
            client.link.close()


async def test_a_stop_tells_both_sides_of_every_websocket(lane: Door) -> None:
    """1001, spread over two seconds; then the gateway has nothing to wait for."""
    upstreams: list[Peer] = []

    async def note(peer: Peer) -> None:
        upstreams.append(peer)
        assert await peer.goodbye() == (1001, "shutting down")
        await peer.close(1001)

    told: list[float] = []

    async def hear(client: Peer) -> None:
        assert await client.goodbye() == (1001, "shutting down")
        told.append(trio.current_time() - began)
        await client.end()

    async with lane.stage(accepting(note), shutdown={"delay": "1s", "drain": "20s"}) as stage:
        clients = [await open_websocket(stage) for _ in range(20)]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(hear, client)
            stage.gateway.stop()
            await trio.sleep(0.5)
            nursery.start_soon(hear, await open_websocket(stage))  # for the delay all goes on
        assert 1 <= told[0] < 1.5
        assert told == pytest.approx([told[0] + n * 2 / 21 for n in range(21)], abs=0.05)
        await stage.ended.wait()
        assert trio.current_time() - began < 4
        assert await stage.reasons() == ["shutting_down"] * 21
        assert len(upstreams) == 21


async def test_peers_that_never_answer_do_not_put_off_the_end(lane: Door) -> None:
    """Nor one that stands in the middle of a frame."""
    other = Other()
    async with lane.stage(accepting(other), shutdown={"delay": 0, "drain": "3s"}) as stage:
        client, upstream = await both(stage, other)
        await client.link.send(b"\x82\xfe\x01\x00half")
        await upstream.hear()
        began = trio.current_time()
        stage.gateway.stop()
        await stage.ended.wait()
        assert trio.current_time() - began <= 4
        assert await stage.reasons() == ["shutting_down"]
        assert await client.goodbye() == (1001, "shutting down")
        assert await upstream.goodbye() is None


async def test_a_handshake_behind_the_goodbyes_is_refused(lane: Door) -> None:
    """What would be told to go the next moment is not let in."""
    asked = trio.Event()

    async def slow(wire: Wire) -> None:
        head = await wire.head()
        asked.set()
        await trio.sleep(2)
        await echo(await accept(wire, head))

    async with lane.stage(slow, shutdown={"delay": 0, "drain": "10s"}) as stage:
        client = await stage.world.client()
        await client.send(handshake())
        await asked.wait()
        stage.gateway.stop()
        answer = await client.answer()
        assert answer.status == 503
        assert b"shutting_down" in answer.body
        client.link.close()
        await stage.ended.wait()
