"""Faults through the lane that need a whole gateway: hidden requests, cut bodies, crowds and pairing."""

from __future__ import annotations

import random

import pytest
import trio

from tests.support.client import RawClient, request
from tests.support.faults import fault, through
from tests.support.gateway import World, world
from tests.support.upstream import Received, Script, Wire

pytestmark = through("lane")

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


@fault("F2")
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


@fault("F12")
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


@fault("L6")
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


@fault("C6")
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


WEBSOCKET = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; "
OPENINGS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2 where it is not spoken": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "PROXY": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request(USERS),
    "zeros": bytes(10_000),
    "line ends": b"\r\n" * 10_000,
    "bytes behind a handshake": request(USERS, *WEBSOCKET) + b"\x81\x85abcd" + bytes(300),
    "a body of a handshake": request(USERS, *WEBSOCKET, body=b"hello"),
    "window bits that are none": request(USERS, *WEBSOCKET, DEFLATE + "server_max_window_bits=99"),
    "window bits twice": request(
        USERS, *WEBSOCKET, DEFLATE + "client_max_window_bits=9; client_max_window_bits=x"
    ),
    "an extension that is none": request(USERS, *WEBSOCKET, "Sec-WebSocket-Extensions: ;=,,"),
    "a key that is none": request(USERS, *WEBSOCKET[:3], "Sec-WebSocket-Key: \xff"),
    "no key": request(USERS, *WEBSOCKET[:3]),
    "another version": request(USERS, *WEBSOCKET[:2], "Sec-WebSocket-Version: -1"),
    "a handshake of HTTP/1.0": request(USERS, *WEBSOCKET, version="1.0"),
    "a handshake beside the prefix": request("/", *WEBSOCKET, DEFLATE + "server_max_window_bits=99")
    + bytes(99),
}


@fault("K1")
@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
async def test_hostile_openings_harm_only_themselves(opening: bytes, autojump_clock: object) -> None:
    """Whatever a peer opens with, its connection ends in time, and a bystander is served meanwhile."""
    async with world(CONFIG) as here:
        client, bystander = await here.client(), await here.client()
        await client.send(opening)
        for _ in range(3):
            assert (await bystander.get(USERS)).status == 200
            await trio.sleep(0.1)
        with trio.fail_after(120):
            while await client.link.receive():
                pass
        await baseline(here)


@fault("C3")
async def test_a_chunk_that_does_not_come_is_not_waited_for(autojump_clock: object) -> None:
    """A size without its line end, a chunk without its rest: 408 at `body_idle`, an abort upstream."""
    seen: list[Received] = []
    wholes: list[Received] = []
    async with world(CONFIG, noting(seen, wholes)) as here:
        for body in (b"5", b"5;x=", b"5\r\nhel", b"5\r\nhello\r", b"0\r\n", b"0\r\nX: y\r"):
            client = await here.client()
            began = trio.current_time()
            await client.send(request(USERS, "Transfer-Encoding: chunked", method="POST") + body)
            assert (await client.answer()).status == 408
            assert trio.current_time() - began == pytest.approx(30, abs=0.1)
        assert wholes == []
        await baseline(here)
