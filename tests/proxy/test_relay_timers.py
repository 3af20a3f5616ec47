"""The one deadline of an exchange, as it moves: who is waited for, how long, and who is to blame."""

from __future__ import annotations

import contextlib
import socket

import h11
import pytest
import trio
import trio.testing
from attrs import define

from tests.support.client import RawClient, request
from tests.support.gateway import world
from tests.support.stage import Door
from tests.support.timed import CONFIG, HEAD, USERS, code, failures, post, silent, timed, within
from tests.support.upstream import Script, Wire
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.link import Link

# ---- `timeout`: the wait for the reply's head ------------------------------------------------------


async def test_an_upstream_that_never_answers_is_504_at_timeout(autojump_clock: object) -> None:
    """Not before, not much later, and it is the upstream's failure."""
    async with timed(silent) as here:
        client = await here.client()
        await client.send(request(USERS))
        answer = await within(5, client)
        assert (answer.status, code(answer)) == (504, "upstream_timeout")
        assert failures(here) == 1
        assert (await client.get(USERS)).status == 504  # the client's connection lives on


async def test_a_head_that_drips_does_not_move_the_deadline(autojump_clock: object) -> None:
    """Only a whole head counts."""

    async def script(wire: Wire) -> None:
        await wire.request()
        for byte in HEAD:
            await wire.send(bytes([byte]))
            await trio.sleep(1)

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS))
        assert (await within(5, client)).status == 504


async def test_interim_replies_do_not_move_the_deadline(autojump_clock: object) -> None:
    """103 is not the answer."""

    async def script(wire: Wire) -> None:
        await wire.request()
        for _ in range(8):
            await trio.sleep(1)
            await wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await wire.closed()

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS))
        answer = await within(5, client)
        assert (answer.status, len(answer.interim)) == (504, 4)


async def test_timeout_covers_the_wait_for_a_connection(autojump_clock: object) -> None:
    """Who stands in the pool's queue gets 504 at the same time as who stands before the upstream."""
    async with timed(silent) as here:
        first, second = await here.client(), await here.client()
        await first.send(request(USERS))
        await trio.sleep(1)
        await second.send(request(USERS))
        assert (await within(5, first)).status == 504
        assert (await within(6, second)).status == 504


async def test_a_connect_that_hangs_is_504_at_its_own_time(autojump_clock: object) -> None:
    """`timeouts.connect` is shorter than `timeout` here, and a connect failure counts."""
    async with timed() as here:
        here.network.hang.add(here.backend.address)
        client = await here.client()
        await client.send(request(USERS))
        answer = await within(3, client)
        assert (answer.status, code(answer)) == (504, "connect_timeout")
        assert failures(here) == 1


async def test_each_piece_that_the_upstream_takes_arms_the_timeout_anew(autojump_clock: object) -> None:
    """An upload of half a minute and a reply soon after it: no timeout."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(4.5)
        await wire.reply()

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 70", method="POST"))
        for _ in range(7):
            await client.send(b"0123456789")
            await trio.sleep(4.5)
        assert (await client.answer()).status == 200


async def test_a_slow_upstream_that_keeps_taking_bytes_is_not_late(autojump_clock: object) -> None:
    """An upstream that takes each piece bit by bit, for longer than `timeout`, is served to the end."""

    async def script(wire: Wire) -> None:
        received = await wire.head()
        (link,) = stage.network.upstream_links
        link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while len(received.body) < 330_000:  # more came with the head
            received.body += await wire.link.receive(4_000)
            await trio.sleep(0.5 if len(received.body) > 220_000 else 0)  # what stood in the buffers
        await wire.reply()
        await wire.closed()

    async with Door("lane").stage(script, {"timeout": 5}) as stage:
        call = await stage.open("POST", USERS, length=400_000)
        stage.nursery.start_soon(call.send, bytes(400_000))
        assert (await call.answer()).status == 200
        assert trio.current_time() > 20


async def test_an_upstream_that_stops_taking_an_upload_is_504(autojump_clock: object) -> None:
    """`timeout` after the last byte that it took."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await trio.sleep(7)

    async with timed(script) as here:
        client = await here.client()
        here.nursery.start_soon(post, client, 2_000_000)
        answer = await within(5, client)
        assert (answer.status, code(answer)) == (504, "upstream_timeout")
        assert failures(here) == 1


def fill(link: Link) -> int:
    """Fill the kernel's buffer, so that the next write has to wait; how many bytes that took."""
    filled, block = 0, bytes(64 * 1024)
    while taken := len(block) - len(link.send_nowait(block)):
        filled += taken
    return filled


# ---- while the client's body is awaited ------------------------------------------------------------


async def test_timeout_stands_still_while_the_clients_body_is_awaited(autojump_clock: object) -> None:
    """The upstream is not blamed for a slow client."""
    async with timed() as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 10", method="POST") + b"01234")
        await trio.sleep(11.5)
        await client.send(b"56789")
        assert (await client.answer()).status == 200
        assert failures(here) == 0


@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]])
async def test_a_client_that_withholds_its_body_gets_408(expect: list[str], autojump_clock: object) -> None:
    """At `body_idle`, and no breaker counts it."""
    async with timed(silent) as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 10", *expect, method="POST"))
        answer = await within(12, client)
        assert (answer.status, code(answer)) == (408, "request_timeout")
        assert answer.values("connection") == ["close"]
        assert failures(here) == 0
        await trio.sleep(0.1)
        assert here.backend.open == 0


async def answering_at_once(wire: Wire) -> None:
    await wire.head()
    await wire.reply()
    await wire.closed()


@pytest.mark.parametrize(("script", "status"), [(silent, 408), (answering_at_once, 200)])
async def test_a_client_that_reads_nothing_is_not_asked_for_its_body(
    script: Script, status: int, autojump_clock: object
) -> None:
    """A 100 that had to wait would be in the way of the reply, and move its deadline."""
    async with timed(script) as here:
        client = await here.client()
        await trio.testing.wait_all_tasks_blocked()
        (lane,) = here.gateway.server.lanes
        in_the_way = fill(lane.link)
        await client.send(request(USERS, "Content-Length: 10", "Expect: 100-continue", method="POST"))
        await trio.sleep(3)
        while in_the_way:
            in_the_way -= len(await client.link.receive(in_the_way))
        answer = await client.answer()
        assert (answer.status, answer.interim) == (status, [])
        assert trio.current_time() < 12 + 0.05


async def test_an_interim_reply_that_is_cut_is_the_last(autojump_clock: object) -> None:
    """Behind half a head nothing else can be told from it."""

    async def hinting(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % (b"x" * 50_000))
        await wire.closed()

    async with timed(hinting) as here:
        client = await here.client()
        await trio.testing.wait_all_tasks_blocked()
        (lane,) = here.gateway.server.lanes
        lane.link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4000)
        await client.send(request(USERS))
        await trio.sleep(20)
        received = b""
        with contextlib.suppress(OSError):
            while data := await client.link.receive():
                received += data
        assert received.startswith(b"HTTP/1.1 103 Early Hints")
        assert received.count(b"HTTP/1.1") == 1
        assert failures(here) == 0


async def test_a_client_that_drips_its_body_is_cut_by_min_rate(autojump_clock: object) -> None:
    """Each byte comes within `body_idle`, but all of them are too few after five seconds of grace."""
    async with timed(silent, rate=100) as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 100000", method="POST"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, client)
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert (answer.status, code(answer)) == (408, "request_timeout")
        assert 5 <= trio.current_time() <= 7
        assert failures(here) == 0


async def drip(client: RawClient) -> None:
    while True:
        await client.send(b"x")
        await trio.sleep(1)


@pytest.mark.parametrize("_", range(8))  # Trio shuffles who runs first
def test_a_body_byte_at_the_very_deadline_changes_nothing(_: int) -> None:
    """When the deadline and the next piece come in one moment, the answer is still 408, not a 503 of ours."""
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with world(CONFIG.format(total="null", rate=0), silent) as here:
            client = await here.client()
            await client.send(request(USERS, "Content-Length: 10", method="POST") + b"0")
            await trio.testing.wait_all_tasks_blocked()
            client.link.send_nowait(b"1")
            clock.jump(12)
            await trio.testing.wait_all_tasks_blocked()
            assert (await client.answer()).status == 408
            assert here.lines[-1][13] == "request_timeout"

    trio.run(main, clock=clock)


# ---- `timeouts.idle`: silence inside the reply ------------------------------------------------------


async def test_an_upstream_that_falls_silent_is_cut_at_idle(autojump_clock: object) -> None:
    """The client can tell, the log says why, and the breaker hears of it."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(HEAD + b"2\r\nok\r\n")
        await wire.closed()

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS))
        await client.head()
        assert await client.piece() == b"ok"
        with pytest.raises(h11.RemoteProtocolError):
            await client.piece()
        assert 8 <= trio.current_time() <= 8.05
        assert here.lines[-1][8:14:5] == (200, "upstream_stalled")
        assert failures(here) == 1


async def test_a_reply_that_drips_is_relayed_however_long_it_takes(autojump_clock: object) -> None:
    """Each event arms `idle` anew; neither `timeout` nor `min_rate` judges the upstream."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(HEAD)
        for _ in range(100):
            await trio.sleep(7.5)
            await wire.send(b"1\r\nx\r\n")
        await wire.send(b"0\r\n\r\n")

    async with timed(script, rate=100) as here:
        answer = await here.get(USERS)
        assert answer.body == b"x" * 100
        assert trio.current_time() >= 750


async def test_each_event_is_relayed_as_it_comes(autojump_clock: object) -> None:
    """A head without a body byte, and then every piece, pass without delay."""
    sent: list[float] = []

    async def script(wire: Wire) -> None:
        await wire.request()
        for data in (HEAD, b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"):
            await trio.sleep(1)
            sent.append(trio.current_time())
            await wire.send(data)

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS))
        await client.head()
        came = [trio.current_time()]
        for expected in (b"a", b"b", None):
            assert await client.piece() == expected
            came.append(trio.current_time())
        assert came == pytest.approx(sent, abs=0.01)


@define(eq=False)
class BusyGateway(trio.abc.Instrument):
    """Lets six seconds pass in each step that a connection's task takes while a reply is being relayed."""

    clock: trio.testing.MockClock
    in_flight: InFlight

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if task.name.endswith("Server._guard") and any(exchange.committed for exchange in self.in_flight):
            self.clock.jump(6)


def test_a_reply_that_never_waits_has_no_deadline() -> None:
    """A download that neither side holds up is not cut when `timeout` passes: nobody was waited for."""
    clock = trio.testing.MockClock()
    size = 400_000

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await wire.closed()

    async def main() -> None:
        async with world(CONFIG.format(total="null", rate=0), script) as here:
            client = await here.client()
            await trio.testing.wait_all_tasks_blocked()
            (lane,) = here.gateway.server.lanes
            lane.link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            trio.lowlevel.add_instrument(BusyGateway(clock, here.gateway.runtime.in_flight))
            await client.send(request(USERS))
            assert len((await client.answer()).body) == size

    trio.run(main, clock=clock)


# ---- `timeouts.total` -----------------------------------------------------------------------------


async def test_total_cuts_a_reply_that_goes_on(autojump_clock: object) -> None:
    """Though each piece is in time, the whole exchange is bounded."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(HEAD)
        while True:
            await trio.sleep(1)
            await wire.send(b"1\r\nx\r\n")

    async with timed(script, total="20s") as here:
        client = await here.client()
        await client.send(request(USERS))
        with pytest.raises(h11.RemoteProtocolError):
            await client.answer()
        assert 20 <= trio.current_time() <= 20.05
        assert here.lines[-1][13] == "total_timeout"
        assert failures(here) == 0


async def test_total_also_bounds_the_wait_for_the_client(autojump_clock: object) -> None:
    """504, and nobody's failure."""
    async with timed(silent, total="4s") as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 10", method="POST"))
        answer = await within(4, client)
        assert (answer.status, code(answer)) == (504, "total_timeout")
        assert failures(here) == 0


async def test_total_before_the_head_is_the_upstreams(autojump_clock: object) -> None:
    """When the upstream keeps us waiting until `total`, it is its failure."""
    async with timed(silent, total="2s") as here:
        client = await here.client()
        await client.send(request(USERS))
        assert (await within(2, client)).status == 504
        assert failures(here) == 1
