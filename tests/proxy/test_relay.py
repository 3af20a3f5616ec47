"""Bodies both ways, and the one deadline that moves with them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import trio
import trio.testing
from attrs import define

from tests.support.client import Answer, RawClient, request
from tests.support.gateway import World, world
from tests.support.stage import Door
from tests.support.upstream import Received, Script, Wire, answering
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.relay import trailers_to_pass

USERS = "/orchestrator/users"
CONFIG = """
server:
  bind: ["127.0.0.1:8000"]
  timeouts: {{body_idle: 12s, write: 7s}}
  limits: {{min_rate: {rate}}}
circuit_breaker: {{failure_threshold: 9}}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST]
    timeout: 5
    timeouts: {{connect: 3s, idle: 8s, total: {total}}}
    pool: {{max_connections: 1}}
"""
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def timed(
    script: Script = answering, *, total: str = "null", rate: int = 0, connections: int = 1
) -> AsyncIterator[World]:
    """A gateway with short timers: head 5, connect 3, idle 8, body_idle 12, write 7 seconds."""
    config = CONFIG.format(total=total, rate=rate).replace(
        "max_connections: 1", f"max_connections: {connections}"
    )
    async with world(config, script) as here:
        yield here
        for client in here.clients:
            client.link.close()
        await trio.sleep(2.5)
        assert here.idle()
        pool = here.gateway.runtime.upstreams["users"].pool
        assert here.backend.open == pool.statistics().idle


def failures(here: World) -> int:
    return here.gateway.runtime.upstreams["users"].breaker.failure_count


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


async def post(client: RawClient, size: int) -> None:
    """Send a large body for as long as somebody takes it."""
    with contextlib.suppress(OSError):
        await client.send(request(USERS, f"Content-Length: {size}", method="POST") + bytes(size))


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.closed()


async def within(seconds: float, client: RawClient) -> Answer:
    """The answer, which must come this many seconds after the test began."""
    answer = await client.answer()
    assert seconds <= trio.current_time() <= seconds + 0.05
    return answer


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


# ---- `timeout`: the wait for the reply's head ------------------------------------------------------


async def test_an_upstream_that_never_answers_is_504_at_timeout(clock: object) -> None:
    """Not before, not much later, and it is the upstream's failure."""
    async with timed(silent) as here:
        client = await here.client()
        await client.send(request(USERS))
        answer = await within(5, client)
        assert (answer.status, code(answer)) == (504, "upstream_timeout")
        assert failures(here) == 1
        assert (await client.get(USERS)).status == 504  # the client's connection lives on


async def test_a_head_that_drips_does_not_move_the_deadline(clock: object) -> None:
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


async def test_interim_replies_do_not_move_the_deadline(clock: object) -> None:
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


async def test_timeout_covers_the_wait_for_a_connection(clock: object) -> None:
    """Who stands in the pool's queue gets 504 at the same time as who stands before the upstream."""
    async with timed(silent) as here:
        first, second = await here.client(), await here.client()
        await first.send(request(USERS))
        await trio.sleep(1)
        await second.send(request(USERS))
        assert (await within(5, first)).status == 504
        assert (await within(6, second)).status == 504


async def test_a_connect_that_hangs_is_504_at_its_own_time(clock: object) -> None:
    """`timeouts.connect` is shorter than `timeout` here, and a connect failure counts."""
    async with timed() as here:
        here.network.hang.add(here.backend.address)
        client = await here.client()
        await client.send(request(USERS))
        answer = await within(3, client)
        assert (answer.status, code(answer)) == (504, "connect_timeout")
        assert failures(here) == 1


async def test_each_piece_that_the_upstream_takes_arms_the_timeout_anew(clock: object) -> None:
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


async def test_a_slow_upstream_that_keeps_taking_bytes_is_not_late(clock: object) -> None:
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


async def test_an_upstream_that_stops_taking_an_upload_is_504(clock: object) -> None:
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


# ---- while the client's body is awaited ------------------------------------------------------------


async def test_timeout_stands_still_while_the_clients_body_is_awaited(clock: object) -> None:
    """The upstream is not blamed for a slow client."""
    async with timed() as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 10", method="POST") + b"01234")
        await trio.sleep(11.5)
        await client.send(b"56789")
        assert (await client.answer()).status == 200
        assert failures(here) == 0


@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]])
async def test_a_client_that_withholds_its_body_gets_408(expect: list[str], clock: object) -> None:
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


async def test_a_client_that_drips_its_body_is_cut_by_min_rate(clock: object) -> None:
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


async def test_an_upstream_that_falls_silent_is_cut_at_idle(clock: object) -> None:
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


async def test_a_reply_that_drips_is_relayed_however_long_it_takes(clock: object) -> None:
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


async def test_each_event_is_relayed_as_it_comes(clock: object) -> None:
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
    """Lets six seconds pass in each step that is taken while a reply is being relayed."""

    clock: trio.testing.MockClock
    in_flight: InFlight

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if any(exchange.committed for exchange in self.in_flight):
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


async def test_total_cuts_a_reply_that_goes_on(clock: object) -> None:
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


async def test_total_also_bounds_the_wait_for_the_client(clock: object) -> None:
    """504, and nobody's failure."""
    async with timed(silent, total="4s") as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 10", method="POST"))
        answer = await within(4, client)
        assert (answer.status, code(answer)) == (504, "total_timeout")
        assert failures(here) == 0


async def test_total_before_the_head_is_the_upstreams(clock: object) -> None:
    """When the upstream keeps us waiting until `total`, it is its failure."""
    async with timed(silent, total="2s") as here:
        client = await here.client()
        await client.send(request(USERS))
        assert (await within(2, client)).status == 504
        assert failures(here) == 1


# ---- clients that don't read ------------------------------------------------------------------------


async def endless(wire: Wire) -> None:
    await wire.request()
    await wire.send(HEAD)
    while True:
        await wire.send(b"2710\r\n%b\r\n" % bytes(10_000))


async def test_a_client_that_never_reads_is_cut_at_write(clock: object) -> None:
    """`server.timeouts.write` rules; the upstream is let go and not blamed."""
    async with timed(endless) as here:
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(6.5)
        assert here.backend.open == 1
        await trio.sleep(1)
        assert here.backend.open == 0
        assert here.lines[-1][13] == "client_stalled"
        assert failures(here) == 0


async def test_a_client_that_reads_slowly_holds_its_upstream_without_blame(clock: object) -> None:
    """While a client takes its time neither `timeout` nor `idle` runs, and no more than buffers fill."""
    sent = 0

    async def script(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(HEAD)
        for _ in range(200):
            await wire.send(b"2710\r\n%b\r\n" % bytes(10_000))
            sent += 10_000
        await wire.send(b"0\r\n\r\n")

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS))
        await client.head()
        got = 0
        while (piece := await client.piece()) is not None:
            got += len(piece)
            assert sent - got < 1_000_000
            await trio.sleep(0.2)
        assert got == 2_000_000
        assert trio.current_time() > 10
        assert here.lines[-1][13] == "completed"


async def test_a_client_that_sips_a_reply_is_cut_by_min_rate(clock: object) -> None:
    """It reads within each `write` timer, but too little in all."""
    async with timed(endless, rate=100_000) as here:
        client = await here.client()
        await client.send(request(USERS))
        await client.head()
        with pytest.raises((OSError, h11.RemoteProtocolError)):
            await sip(client)
        assert here.lines[-1][13] == "client_stalled"
        assert trio.current_time() < 120


async def sip(client: RawClient) -> None:
    for _ in range(100):
        await client.piece()
        await trio.sleep(5)


# ---- early replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("closing", [False, True])
async def test_a_reply_during_an_upload_is_relayed_at_once(closing: bool, clock: object) -> None:
    """Whole, with `Connection: close`, though the upstream stops reading or closes; no reset eats it."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.reply(b"enough", status=b"413 Too Large")
        if not closing:
            await wire.closed()

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS, "Content-Length: 150000", method="POST") + bytes(50_000))
        answer = await client.answer()
        assert (answer.status, answer.body, answer.values("connection")) == (413, b"enough", ["close"])
        assert trio.current_time() < 0.1
        await client.send(bytes(100_000))
        assert await client.link.receive() == b""
        assert here.lines[-1][13] == "completed"


async def test_an_upload_goes_on_while_its_reply_streams(clock: object) -> None:
    """Both directions at once: an upstream that echoes as it reads."""

    async def script(wire: Wire) -> None:
        received: Received = await wire.head()
        assert received.values(b"transfer-encoding") == [b"chunked"]
        await wire.send(HEAD)
        while isinstance(event := await wire._event(), h11.Data):
            await wire.send(b"%x\r\n%b\r\n" % (len(event.data), event.data))
        await wire.send(b"0\r\n\r\n")

    async with timed(script) as here:
        client = await here.client()
        await client.send(request(USERS, "Transfer-Encoding: chunked", method="POST"))
        assert (await client.head()).status == 200
        for _ in range(5):
            await client.send(b"4\r\nping\r\n")
            assert await client.piece() == b"ping"
            await trio.sleep(1)
        await client.send(b"0\r\n\r\n")
        assert await client.piece() is None


@pytest.mark.parametrize(
    ("te", "passed"), [(["TE: trailers"], [(b"x-sum", b"1")]), (["TE: gzip"], []), ([], [])]
)
async def test_trailers_reach_clients_that_asked(
    te: list[str], passed: list[tuple[bytes, bytes]], clock: object
) -> None:
    """Fields that frame, route or authenticate are no trailers."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(HEAD + b"2\r\nok\r\n0\r\nx-sum: 1\r\nSet-Cookie: a=b\r\nContent-Length: 3\r\n\r\n")
        await wire.closed()

    async with timed(script) as here:
        answer = await here.get(USERS, *te)
        assert (answer.body, answer.trailers) == (b"ok", passed)
        assert not answer.values("x-sum")
        assert not answer.values("set-cookie")


@pytest.mark.parametrize(
    "name", [b"Transfer-Encoding", b"HOST", b"authorization", b"X-Forwarded-For", b"Via"]
)
def test_what_would_change_the_message_is_no_trailer(name: bytes) -> None:
    """Framing, routing and credentials stand in the head or nowhere."""
    assert trailers_to_pass([(name, b"a"), (b"X-Sum", b"1")]) == [(b"X-Sum", b"1")]
