"""Backends that break the protocol: their clients get one honest answer, and never another's."""

from __future__ import annotations

import pytest
import trio

from tests.support.doors import Cut, read_cut
from tests.support.faults import fault
from tests.support.moody import Moody
from tests.support.stage import METHODS, OK, USERS, Door
from tests.support.upstream import Received, Script, Wire

H = b"HTTP/1.1 200 OK\r\n"
INVALID = {
    "garbage": b"what is this?\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 \r\nContent-Length: 0\r\n\r\n",
    "status 20": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "length x": H + b"Content-Length: x\r\n\r\n",
    "length -1": H + b"Content-Length: -1\r\n\r\n",
    "length +2": H + b"Content-Length: +2\r\n\r\nok",
    "length 2 2": H + b"Content-Length: 2 2\r\n\r\nok",
    "length of 23 digits": H + b"Content-Length: " + b"1" * 23 + b"\r\n\r\n",
    "two lengths": H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "a list of lengths": H + b"Content-Length: 2, 3\r\n\r\nok!",
    "length and chunked": H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "coding gzip": H + b"Transfer-Encoding: gzip\r\n\r\nok",
    "codings gzip, chunked": H + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded field": H + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": H + b"Content-Length : 2\r\n\r\nok",
    "no colon": H + b"Nonsense\r\nContent-Length: 0\r\n\r\n",
    "NUL": H + b"X: \x00\r\nContent-Length: 0\r\n\r\n",
    "bare CR": H + b"X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a huge head": H + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "201 fields": H + b"X: 1\r\n" * 200 + b"Content-Length: 0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "nine hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9 + OK,
}


@fault("U2")
@pytest.mark.parametrize("reply", INVALID.values(), ids=INVALID)
async def test_what_is_no_reply_is_a_502(door: Door, reply: bytes) -> None:
    """The connection is dropped, the breaker counts, and whoever asks next gets an answer of its own."""
    moody = Moody(reply)
    async with door.stage(moody) as stage:
        caller = await stage.connect()
        assert (await caller.fetch("GET", USERS)).status == 502
        assert await stage.reasons() == ["invalid_upstream_reply"]
        assert stage.target().breaker.failure_count == 1
        assert stage.open_upstream() == 0
        moody.reply = OK
        assert (await caller.fetch("GET", USERS)).body == b"ok"


@fault("U3")
@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n", OK[:-5], b"HTTP/1.1 100 \r\n\r\n"]
)
async def test_a_connection_that_ends_before_the_head_is_a_502(door: Door, head: bytes) -> None:
    """On a new connection there is nobody else to ask."""

    async def closing(wire: Wire) -> None:
        await wire.request()
        if head:
            await wire.send(head)

    async with door.stage(closing) as stage:
        assert (await stage.get()).status == 502
        assert stage.backend.connections == 1
        assert stage.target().breaker.failure_count == 1


@fault("U1")
async def test_a_refused_connection_is_a_502_of_that_endpoint_alone(door: Door) -> None:
    """Others are served."""
    nowhere = {"url": "http://nowhere.example/", "name": "nowhere"}
    async with door.stage(others=[nowhere]) as stage:
        assert (await stage.fetch("GET", "/orchestrator/nowhere")).status == 502
        assert (await stage.get()).status == 200


@fault("U1")
async def test_a_name_that_nobody_knows_is_a_502_of_that_endpoint_alone(door: Door) -> None:
    """The breaker counts, the access line says what the resolver said, and others are served."""
    nowhere = {"url": "http://nowhere.example/", "name": "nowhere"}
    async with door.stage(others=[nowhere]) as stage:
        stage.network.unknown.add("nowhere.example")
        assert (await stage.fetch("GET", "/orchestrator/nowhere")).status == 502
        assert (await stage.get()).status == 200
        assert stage.target("nowhere").breaker.failure_count == 1
        assert "not known" in ((await stage.lines())[0].cause or "")


@fault("U1")
async def test_a_name_that_hangs_is_a_504_of_that_endpoint_alone(door: Door) -> None:
    """At `timeouts.connect`; others are served meanwhile."""
    hung = {"url": "http://hung.example/", "name": "hung", "timeouts": {"connect": 3}}
    async with door.stage(others=[hung]) as stage:
        stage.network.hang.add(("hung.example", 80))
        began = trio.current_time()
        call = await stage.open("GET", "/orchestrator/hung")
        assert (await stage.get()).status == 200
        assert trio.current_time() - began < 0.1
        assert (await call.answer()).status == 504
        assert trio.current_time() - began == pytest.approx(3, abs=0.05)


# ---- truncations --------------------------------------------------------------------------------------

CUTS = {
    "a short body": (H + b"Content-Length: 10\r\n\r\nabc", b"abc"),
    "no body": (H + b"Content-Length: 10\r\n\r\n", b""),
    "no last chunk": (H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
    "half a chunk": (H + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc", b"abc"),
    "half a last chunk": (H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"abc"),
}


@fault("U4")
@fault("rule 7")
@pytest.mark.parametrize(("reply", "body"), CUTS.values(), ids=CUTS)
async def test_a_reply_that_is_cut_is_seen_to_be_cut(door: Door, reply: bytes, body: bytes) -> None:
    """The client can tell, the access line says so, and the breaker counts one more."""

    async def cutting(wire: Wire) -> None:
        await wire.request()
        await wire.send(reply)
        await trio.sleep(1)

    async with door.stage(cutting) as stage:
        call = await stage.open("GET", USERS)
        assert (await call.head()).status == 200
        assert await read_cut(call) == body
        assert await stage.reasons() == ["upstream_truncated"]
        assert stage.target().breaker.failure_count == 1
        assert stage.open_upstream() == 0


@fault("U4")
@pytest.mark.parametrize(
    "chunk",
    [b"x\r\n", b"0x3\r\nabc\r\n", b"-1\r\n", b"3\r\nabcd", b"3\nabc\n", b"1" * 17 + b"\r\n", b"3;\n\r\nabc"],
)
async def test_a_chunk_that_is_none_cuts_the_reply(door: Door, chunk: bytes) -> None:
    """Broken chunks never pass for data, and never for the end."""

    async def breaking(wire: Wire) -> None:
        await wire.request()
        await wire.send(H + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n")
        await trio.sleep(1)
        await wire.send(chunk)
        await wire.closed()

    async with door.stage(breaking) as stage:
        call = await stage.open("GET", USERS)
        await call.head()
        assert (await read_cut(call)).rstrip(b"abc") == b"good"
        assert await stage.reasons() == ["upstream_truncated"]


async def test_a_cut_reply_costs_an_h2_connection_nothing(h2: Door) -> None:
    """One stream is reset; the next request goes over the same connection."""
    async with h2.stage(Moody(H + b"Content-Length: 10\r\n\r\nabc"), {"timeouts": {"idle": 1}}) as stage:
        caller = await stage.connect()
        for _ in range(3):
            with pytest.raises(Cut):
                await caller.fetch("GET", USERS)


# ---- bytes that nobody asked for --------------------------------------------------------------------

ANOTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
EXTRA = {
    "a reply behind a body": (OK, ANOTHER),
    "a byte behind a body": (OK, b"\n"),
    "a reply behind the last chunk": (H + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ANOTHER),
    "a body behind a 204": (b"HTTP/1.1 204 \r\n\r\n", b"body"),
    "a body behind a 304": (b"HTTP/1.1 304 \r\nContent-Length: 4\r\n\r\n", b"body"),
    "a body behind an empty body": (H + b"Content-Length: 0\r\n\r\n", b"body"),
}


@fault("U5")
@fault("rule 5")
@pytest.mark.parametrize("delay", [0.0, 0.5], ids=["at once", "later"])
@pytest.mark.parametrize(("reply", "extra"), EXTRA.values(), ids=EXTRA)
async def test_bytes_behind_a_reply_meet_nobody(door: Door, reply: bytes, extra: bytes, delay: float) -> None:
    """The connection is not used again: everybody gets the answer to what they asked."""

    async def talkative(wire: Wire) -> None:
        while (received := await wire.request()).target != b"/first":
            await wire.reply(received.target)
        if not delay:
            await wire.send(reply + extra)
        else:
            await wire.send(reply)
            await trio.sleep(delay)
            await wire.send(extra)
        await wire.closed()

    async with door.stage(talkative) as stage:
        caller = await stage.connect()
        await caller.fetch("GET", USERS + "/first")
        await trio.sleep(0.6)
        for n in range(3):
            assert (await caller.fetch("GET", f"{USERS}/{n}")).body == b"/%d" % n
        assert stage.backend.connections == 2


@fault("U5")
async def test_a_body_behind_a_head_s_reply_meets_nobody(door: Door) -> None:
    """HEAD has no body, whatever the backend thinks."""
    async with door.stage(Moody(OK)) as stage:
        caller = await stage.connect()
        assert (await caller.fetch("HEAD", USERS)).body == b""
        assert (await caller.fetch("GET", USERS)).body == b"ok"
        assert stage.backend.connections == 2


@fault("U5")
async def test_a_farewell_on_an_idle_connection_meets_nobody(door: Door) -> None:
    """An unsolicited 408 and a close are taken for what they are."""

    async def farewell(wire: Wire) -> None:
        await wire.request()
        await wire.reply()
        await trio.sleep(0.5)
        await wire.send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    async with door.stage(farewell) as stage:
        for _ in range(3):
            assert (await stage.get()).status == 200
            await trio.sleep(0.7)
        assert stage.backend.connections == 3


# ---- connections that died meanwhile ------------------------------------------------------------------


def dying(seen: list[Received]) -> Script:
    """The first connection takes its second request with it when it ends."""

    async def script(wire: Wire) -> None:
        while True:
            seen.append(await wire.request())
            if len(seen) == 2:
                break
            await wire.reply()

    return script


@fault("U3")
@fault("rule 9")
@pytest.mark.parametrize("method", METHODS)
async def test_a_stale_connection_is_replaced_where_that_is_safe(door: Door, method: str) -> None:
    """What is idempotent is sent once more; what is not was seen exactly once, and is a 502."""
    seen: list[Received] = []
    async with door.stage(dying(seen)) as stage:
        await stage.get()
        body = b"data" if method in ("POST", "PUT", "PATCH") else None
        answer = await stage.fetch(method, USERS + "/second", body=body)
        safe = method not in ("POST", "PATCH")
        assert answer.status == (200 if safe else 502)
        assert [received.target for received in seen[1:]] == [b"/second"] * (2 if safe else 1)
        assert all(received.body == (body or b"") for received in seen[1:])
        assert [line.attempts for line in await stage.lines()] == [1, 2 if safe else 1]
        assert stage.target().breaker.failure_count == (0 if safe else 1)


@fault("U3")
async def test_a_replacement_is_not_replaced(door: Door) -> None:
    """The replay takes a new connection, so its end is the backend's word: 502."""
    seen: list[Received] = []

    async def script(wire: Wire) -> None:
        seen.append(await wire.request())
        if seen[-1].target == b"/":
            await wire.reply()
            seen.append(await wire.request())

    async with door.stage(script) as stage:
        assert (await stage.get()).status == 200
        assert (await stage.get("/x")).status == 502
        assert [received.target for received in seen] == [b"/", b"/x", b"/x"]


@fault("rule 9")
async def test_a_streamed_body_is_never_sent_twice(door: Door) -> None:
    """Its bytes are gone."""
    seen: list[Received] = []
    async with door.stage(dying(seen)) as stage:
        await stage.get()
        call = await stage.open("PUT", USERS, stream=True)
        await trio.sleep(0.1)
        await call.send(b"data")
        await call.end()
        assert (await call.answer()).status == 502
        assert len(seen) == 2


async def test_what_cannot_be_repeated_takes_a_young_connection(door: Door) -> None:
    """A POST never meets a connection that idled for a second; a GET may."""
    async with door.stage() as stage:
        await stage.get()
        await trio.sleep(0.9)
        await stage.post(b"x")
        assert stage.backend.connections == 1
        await trio.sleep(1.1)
        await stage.post(b"x")
        assert stage.backend.connections == 2
        await trio.sleep(1.1)
        await stage.get()
        assert stage.backend.connections == 2


@pytest.mark.parametrize(
    ("head", "wait", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", 0.0, 2),
        (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\n", 0.0, 2),
        (b"HTTP/1.0 200 OK\r\n", 0.0, 2),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", 0.0, 1),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\n", 1.5, 1),
        (b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\n", 2.5, 2),
        (b"HTTP/1.1 200 OK\r\n", 3.5, 1),
        (b"HTTP/1.1 200 OK\r\n", 4.5, 2),
    ],
)
async def test_the_backend_says_for_how_long_it_keeps_a_connection(
    door: Door, head: bytes, wait: float, connections: int
) -> None:
    """`Connection`, the version and `Keep-Alive` are believed, within `pool.idle_timeout`."""
    async with door.stage(Moody(head + b"Content-Length: 2\r\n\r\nok")) as stage:
        for _ in range(2):
            assert (await stage.get()).body == b"ok"
            await trio.sleep(wait)
        assert stage.backend.connections == connections
