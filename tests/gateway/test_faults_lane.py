"""Faults through the lane that need a whole gateway: hidden requests, cut bodies, crowds and pairing."""

from __future__ import annotations

import contextlib
import random

import h11
import pytest
import trio

from tests.support.client import RawClient, request
from tests.support.gateway import World, world
from tests.support.upstream import Received, Script, Upstream, Wire, answering

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1000000}
endpoints:
  - url: "http://backend.example/"
    name: users
    methods: [GET, POST, PUT]
    timeout: 5
    pool: {max_connections: 8}
  - {url: "http://other.example/", name: other, methods: [GET], timeout: 5}
"""


def noting(seen: list[Received], wholes: list[Received]) -> Script:
    """A backend that notes what it got, whole or not."""

    async def script(wire: Wire) -> None:
        while True:
            received = await wire.head()
            seen.append(received)
            await wire.body(received)
            wholes.append(received)
            await wire.reply()

    return script


async def baseline(here: World) -> None:
    """Nothing is in flight and nothing open but what idles in the pools."""
    for client in here.clients:
        client.link.close()
    await trio.sleep(2.5)
    assert here.idle()
    assert not here.gateway.server.lanes
    assert here.backend.open == here.gateway.runtime.upstreams["users"].pool.statistics().idle


SMUGGLED = b"GET /orchestrator/users/admin HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "body", "accepted"),
    [
        (["Content-Length: 6", "Transfer-Encoding: chunked"], b"0\r\n\r\nG" + SMUGGLED, 0),
        (["Transfer-Encoding: chunked", "Content-Length: 0"], SMUGGLED, 0),
        (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n" + SMUGGLED, 0),
        (["Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n" + SMUGGLED, 0),
        (["Content-Length: 0", "Content-Length: 54"], SMUGGLED, 0),
        (["X: a\r\nContent-Length: 0\n"], SMUGGLED, 0),
        ([f"Content-Length: {len(SMUGGLED)}"], SMUGGLED, 1),
        (["Transfer-Encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), 1),
        (
            ["Transfer-Encoding: chunked"],
            b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
            1,
        ),
        (["Transfer-Encoding: chunked"], b"0;\n\r\n\r\n" + SMUGGLED, 0),
        (["Transfer-Encoding: chunked"], b"0x0\r\n\r\n" + SMUGGLED, 0),
    ],
)
async def test_no_request_hides_in_another(
    fields: list[str], body: bytes, accepted: int, autojump_clock: object
) -> None:
    """The backend sees at most the requests that the gateway accepted, and never the hidden one."""
    seen: list[Received] = []
    wholes: list[Received] = []
    async with world(CONFIG, noting(seen, wholes)) as here:
        client = await here.client()
        await client.send(request(f"{USERS}/front", *fields, method="POST") + body)
        answer = await client.answer()
        assert (answer.status == 200) is bool(accepted)
        await trio.sleep(3)
        assert len(wholes) == accepted
        assert b"/admin" not in [received.target for received in seen]
        assert all(received.body == SMUGGLED for received in wholes)
        await baseline(here)


@pytest.mark.parametrize("how", ["cut", "garbage", "reset"])
@pytest.mark.parametrize("field", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_an_upload_that_breaks_off_never_looks_whole(
    how: str, field: str, autojump_clock: object
) -> None:
    """The upstream sees an abort, not a last chunk, and its connection serves nobody else."""
    if how == "garbage" and field.startswith("Content"):
        how = "cut"
    seen: list[Received] = []
    wholes: list[Received] = []
    async with world(CONFIG, noting(seen, wholes)) as here:
        client = await here.client()
        piece = b"5\r\nhello\r\n" if "chunked" in field else b"hello"
        await client.send(request(USERS, field, method="POST") + piece)
        await trio.sleep(0.2)
        if how == "garbage":
            await client.send(b"nonsense\r\n")
            assert (await client.answer()).status == 400
        elif how == "reset":
            client.link.abort()
        else:
            client.link.shutdown_write()
        await trio.sleep(0.1)
        assert (len(seen), wholes) == (1, [])
        assert here.backend.open == 0
        assert here.lines[-1][13] == ("malformed_body" if how == "garbage" else "client_gone")
        await baseline(here)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 100\r\n\r\n", b"half"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10\r\nhalf"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\nzz\r\n"),
    ],
)
async def test_a_reply_that_breaks_off_shows(head: bytes, body: bytes, autojump_clock: object) -> None:
    """The client gets what came, and no end; the log says why."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n" + head)
        await trio.sleep(0.1)
        await wire.send(body)

    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(request(USERS))
        assert (await client.head()).status == 200
        with pytest.raises(h11.RemoteProtocolError):
            await rest(client)
        assert here.lines[-1][8:14:5] == (200, "upstream_truncated")
        await baseline(here)


async def rest(client: RawClient) -> None:
    while await client.piece() is not None:
        pass


async def test_upgrade_to_h2c_is_ignored(autojump_clock: object) -> None:
    """The request is served as what it is, and nobody upstream hears of the offer."""
    seen: list[Received] = []
    async with world(CONFIG, noting(seen, [])) as here:
        answer = await here.get(
            USERS, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"
        )
        assert answer.status == 200
        for name in (b"upgrade", b"http2-settings", b"connection"):
            assert seen[0].values(name) == []


async def test_one_hung_upstream_is_nobody_elses_trouble(autojump_clock: object) -> None:
    """Five hundred wait for it, each until its `timeout`; the other endpoint answers at once."""

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.closed()

    async with world(CONFIG, silent) as here:
        other = Upstream(answering)
        await here.nursery.start(other.serve, here.network, "other.example", 80)
        waiting = [await here.client() for _ in range(500)]
        for client in waiting:
            await client.send(request(USERS))
        await trio.sleep(1)
        for _ in range(20):
            began = trio.current_time()
            assert (await here.get("/orchestrator/other")).status == 200
            assert trio.current_time() == began
        assert [(await client.answer()).status for client in waiting] == [504] * 500
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        await baseline(here)


async def test_a_crowd_that_gives_up_leaves_nothing(autojump_clock: object) -> None:
    """Requests end by timeout and by departure while the upstream is saturated; then all is well."""
    busy = True

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            if busy:
                with trio.move_on_after(20):
                    await wire.closed()
                    return
            await wire.reply()

    async with world(CONFIG, script) as here:
        rng = random.Random(7)

        async def visit() -> None:
            await trio.sleep(rng.uniform(0, 10))
            client = RawClient(await here.network.connect("127.0.0.1", 8000))
            with trio.move_on_after(rng.choice([0.001, 0.05, 1, 6])):
                await client.get(USERS)
            client.link.close()

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(visit)
        busy = False
        await trio.sleep(6)
        for _ in range(100):
            assert (await here.get(USERS)).status == 200
        assert len(here.lines) <= 1100
        await baseline(here)


async def test_no_reply_ever_meets_another_request(autojump_clock: object) -> None:
    """Nonces in head and body come back right or not at all, whatever clients and backends do meanwhile."""
    rng = random.Random(11)

    async def moody(wire: Wire) -> None:
        while True:
            received = await wire.request()
            nonce = received.values(b"x-nonce")[0]
            mood = rng.random()
            if mood < 0.05:
                return  # without a word
            if mood < 0.3:
                await trio.sleep(rng.uniform(0, 0.2))
            body = nonce + b":" + received.body
            if mood < 0.4:
                await wire.send(
                    b"HTTP/1.1 200 OK\r\nX-Nonce: %b\r\nContent-Length: %d\r\n\r\n" % (nonce, len(body) + 9)
                )
                await wire.send(body)
                return  # cut
            if mood < 0.6:
                await wire.send(
                    b"HTTP/1.1 200 OK\r\nX-Nonce: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % nonce
                )
                await trio.sleep(rng.choice([0, 0.05]))
                await wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            else:
                await wire.reply(body, b"X-Nonce: " + nonce)
            if mood > 0.95:
                return  # a stale connection for the next one
            if mood > 0.9:
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")

    matched = 0

    async def visitor(here: World, number: int) -> None:
        nonlocal matched
        client = RawClient(await here.network.connect("127.0.0.1", 8000))
        for count in range(60):
            nonce = f"{number}-{count}"
            method = rng.choice(["GET", "PUT", "POST"])
            body = b"" if method == "GET" else nonce.encode() * rng.choice([1, 1000])
            if client.link.closed:
                client = RawClient(await here.network.connect("127.0.0.1", 8000))
            whole = False
            with (
                trio.move_on_after(rng.choice([0.01, 0.1, 9, 9])),
                contextlib.suppress(OSError, h11.RemoteProtocolError),
            ):
                await client.send(request(USERS, f"X-Nonce: {nonce}", method=method, body=body))
                answer = await client.answer()
                whole = True
                if answer.status == 200:
                    assert answer.value("x-nonce") == nonce
                    assert answer.body == f"{nonce}:".encode() + body
                    matched += 1
                else:
                    assert answer.status in (502, 503, 504)
            if not whole or answer.values("connection"):
                client.link.close()
        client.link.close()

    async with world(CONFIG, moody) as here:
        async with trio.open_nursery() as nursery:
            for number in range(32):
                nursery.start_soon(visitor, here, number)
        assert matched > 700  # of 1 920; the rest was cut, refused or given up
        await baseline(here)
