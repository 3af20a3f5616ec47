"""The attempt: what goes upstream, what comes back, and what becomes of the connection."""

from __future__ import annotations

import contextlib
import json
import math
import socket

import h11
import pytest
import trio

from tests.support.client import RawClient, request
from tests.support.exchange import Made
from tests.support.gateway import World, world
from tests.support.upstream import Script, Wire, answering
from trio_gateway.proxy.exchange import Wait
from trio_gateway.proxy.forward import read_head
from trio_gateway.proxy.link import Link
from trio_gateway.server.h1 import H1Writer, NoBody

CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST, PUT, HEAD], timeout: 5}
"""


def saying(*replies: bytes) -> Script:
    """A backend that gives its n-th connection the n-th reply and closes it behind."""
    left = list(replies)

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(left.pop(0))

    return script


def logged(here: World) -> list[tuple[object, object, object]]:
    """Status, attempts and reason of each access line."""
    return [(line[8], line[12], line[13]) for line in here.lines]


def failures(here: World) -> int:
    return here.gateway.runtime.upstreams["users"].breaker.failure_count


def idle(here: World) -> int:
    """Connections in the pool; none may be in use."""
    statistics = here.gateway.runtime.upstreams["users"].pool.statistics()
    assert statistics.active == 0
    return statistics.idle


# ---- the request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fields", "body", "framing", "received"),
    [
        ("GET", [], b"", [], b""),
        ("POST", [], b"", [(b"Content-Length", b"0")], b""),
        ("PUT", ["Content-Length: 0"], b"", [(b"Content-Length", b"0")], b""),
        ("GET", ["Content-Length: 2"], b"ab", [(b"Content-Length", b"2")], b"ab"),
        ("POST", ["Content-Length: 2"], b"ab", [(b"Content-Length", b"2")], b"ab"),
        (
            "POST",
            ["Transfer-Encoding: chunked"],
            b"1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n",
            [(b"Content-Length", b"2")],
            b"ab",
        ),
        ("POST", ["Transfer-Encoding: chunked"], b"0\r\n\r\n", [(b"Content-Length", b"0")], b""),
        ("GET", ["Transfer-Encoding: chunked"], b"0\r\n\r\n", [(b"Content-Length", b"0")], b""),
    ],
)
async def test_a_body_that_is_here_goes_with_one_valid_length(
    method: str,
    fields: list[str],
    body: bytes,
    framing: list[tuple[bytes, bytes]],
    received: bytes,
    autojump_clock: object,
) -> None:
    """However the client framed it; a request that may not have a body gets no length of its own."""
    seen: list[tuple[list[tuple[bytes, bytes]], bytes]] = []

    async def script(wire: Wire) -> None:
        got = await wire.request()
        seen.append(([f for f in got.headers if f[0] in (b"Content-Length", b"Transfer-Encoding")], got.body))
        await wire.reply()

    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(request("/orchestrator/users", *fields, method=method) + body)
        assert (await client.answer()).status == 200
    assert seen == [(framing, received)]


@pytest.mark.parametrize("cut", [0, 1, 20, 30, -1, None])
async def test_a_chunked_body_with_trailers_stays_chunked(cut: int | None, autojump_clock: object) -> None:
    """Trailers need the chunked coding; what they must not say is dropped, and no byte escapes the body."""
    seen: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []

    async def script(wire: Wire) -> None:
        got = await wire.request()
        seen.append((got.body, got.trailers))
        await wire.reply()

    hidden = b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nContent-Length: 7\r\n\r\n" % (len(hidden), hidden)
    async with world(CONFIG, script) as here:
        client = await here.client()
        head = request("/orchestrator/users", "Transfer-Encoding: chunked", method="POST")
        await client.send(head + body[:cut])
        await trio.sleep(0.1)
        await client.send(body[cut:] if cut is not None else b"")
        assert (await client.answer()).status == 200
    assert seen == [(hidden, [(b"X-Sum", b"1")])]


async def test_a_body_that_comes_later_streams_with_the_clients_length(autojump_clock: object) -> None:
    """The upstream gets head and first bytes while the rest is still on its way."""
    heard = trio.Event()

    async def script(wire: Wire) -> None:
        got = await wire.head()
        assert got.values(b"content-length") == [b"10"]
        assert await wire._event() == h11.Data(data=bytearray(b"01234"))
        heard.set()
        await wire.body(got)
        await wire.reply(got.body)

    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(request("/orchestrator/users", "Content-Length: 10", method="POST") + b"01234")
        await heard.wait()
        await client.send(b"56789")
        assert (await client.answer()).body == b"56789"


# ---- stale connections ----------------------------------------------------------------------------


async def once_per_connection(wire: Wire) -> None:
    """The classic stale connection: it promises keep-alive, waits for the next request, and closes."""
    await wire.request()
    await wire.reply()
    await wire.head()


@pytest.mark.parametrize(
    ("method", "body", "status", "attempts"),
    [("GET", b"", 200, 2), ("PUT", b"ab", 200, 2), ("POST", b"", 502, 1), ("POST", b"ab", 502, 1)],
)
async def test_a_stale_connection_is_replaced_once_for_what_may_be_repeated(
    method: str, body: bytes, status: int, attempts: int, autojump_clock: object
) -> None:
    """An upstream that closes a reused connection without a byte costs a GET nothing, a POST a 502."""
    seen: list[bytes] = []

    async def script(wire: Wire) -> None:
        seen.append((await wire.request()).method)
        await wire.reply()
        seen.append((await wire.request()).method)

    async with world(CONFIG, script) as here:
        await here.get("/orchestrator/users/first")
        client = await here.client()
        await client.send(request("/orchestrator/users", method=method, body=body))
        assert (await client.answer()).status == status
        assert here.lines[-1][12] == attempts
        assert failures(here) == int(status == 502)
        assert seen[1:] == [method.encode()] * attempts
        await trio.sleep(0.1)
        assert here.idle()
        assert here.backend.open == idle(here)


async def test_a_fresh_connection_that_dies_is_not_replaced(autojump_clock: object) -> None:
    """An upstream that closes each connection without a reply is 502 at once, even for a GET."""
    async with world(CONFIG, saying(b"", b"")) as here:
        assert (await here.get("/orchestrator/users")).status == 502
        assert logged(here) == [(502, 1, "upstream_reset")]
        assert here.backend.connections == 1
        assert failures(here) == 1


async def test_a_replacement_that_dies_too_is_502(autojump_clock: object) -> None:
    """One replay, not more."""

    async def script(wire: Wire) -> None:
        if here.backend.connections == 1:
            await answering_once(wire)
        await wire.head()

    async def answering_once(wire: Wire) -> None:
        await wire.request()
        await wire.reply()

    async with world(CONFIG, script) as here:
        await here.get("/orchestrator/users")
        assert (await here.get("/orchestrator/users")).status == 502
        assert logged(here)[1] == (502, 2, "upstream_reset")
        assert here.idle()


async def test_what_cannot_be_repeated_does_not_meet_an_old_connection(autojump_clock: object) -> None:
    """A POST a second after the last reply opens a connection of its own; a GET takes the old one."""
    async with world(CONFIG, answering) as here:
        await here.get("/orchestrator/users")
        await trio.sleep(1.5)
        await here.get("/orchestrator/users", method="POST")
        assert here.backend.connections == 2
        await trio.sleep(1.5)
        await here.get("/orchestrator/users")
        assert here.backend.connections == 2


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "negotiate"])
@pytest.mark.parametrize("stale", [False, True])
async def test_credentials_of_a_connection_are_never_shared(
    scheme: str, stale: bool, autojump_clock: object
) -> None:
    """A connection that carried NTLM or Negotiate serves nobody else, a replacement included."""

    async def script(wire: Wire) -> None:
        if stale and here.backend.connections == 1:
            await once_per_connection(wire)
        else:
            await answering(wire)

    async with world(CONFIG, script) as here:
        if stale:
            await here.get("/orchestrator/users")
        await here.get("/orchestrator/users", f"Authorization: {scheme} abc")
        assert idle(here) == 0
        await here.get("/orchestrator/users")
        assert here.backend.connections == 2 + stale


# ---- replies --------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "invalid_upstream_reply"),
        (b"<html>hello</html>", "invalid_upstream_reply"),
        (b"ICY 200 OK\r\n\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 20", "invalid_upstream_reply"),
        (b"HTTP/1.1 200 OK\r\nContent-", "invalid_upstream_reply"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 20 Low\r\nContent-Length: 0\r\n\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", "invalid_upstream_reply"),
        (HEAD + b"Content-Length: -1\r\n\r\n", "invalid_upstream_reply"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", "invalid_upstream_reply"),
        (
            HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
            "invalid_upstream_reply",
        ),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "invalid_upstream_reply"),
        (HEAD + b"X: " + b"a" * 70_000, "invalid_upstream_reply"),
        (HEAD + b"X: a\r\n" * 201 + b"\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "invalid_upstream_reply"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9, "invalid_upstream_reply"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "invalid_upstream_reply"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "upstream_truncated"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "upstream_truncated"),
    ],
    ids=range(20),
)
async def test_what_is_no_valid_reply_is_502_and_counts(
    reply: bytes, reason: str, autojump_clock: object
) -> None:
    """Garbage instead of a reply, or in its first bytes: a whole 502, one failure, no connection kept."""
    async with world(CONFIG, saying(reply)) as here:
        answer = await here.get("/orchestrator/users")
        assert answer.status == 502
        assert json.loads(answer.body)["source"] == "upstream"
        assert logged(here) == [(502, 1, reason)]
        assert failures(here) == 1
        await trio.sleep(0.1)
        assert (idle(here), here.backend.open) == (0, 0)
        assert here.idle()


@pytest.mark.parametrize(
    "rest",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", b"x"],
)
@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GET", HEAD + b"Content-Length: 2\r\n\r\nok"),
        ("GET", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", HEAD + b"Content-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        ("HEAD", HEAD + b"Content-Length: 2\r\n\r\n"),
    ],
)
async def test_bytes_behind_a_reply_never_reach_the_next_user(
    method: str, reply: bytes, rest: bytes, autojump_clock: object
) -> None:
    """Left-over bytes, at once or later, cost the connection; who asks next gets an answer of its own."""
    for later in (False, True):

        async def script(wire: Wire, later: bool = later) -> None:
            await wire.request()
            if here.backend.connections > 1:
                await wire.reply(b"right")
            elif later:
                await wire.send(reply)
                await trio.sleep(0.1)
                await wire.send(rest)
            else:
                await wire.send(reply + rest)
            await wire.closed()

        async with world(CONFIG, script) as here:
            first = await here.get("/orchestrator/users", method=method)
            assert first.status in (200, 204, 304)
            await trio.sleep(0.2)
            assert (await here.get("/orchestrator/users")).body == b"right"


@pytest.mark.parametrize("sent", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_reply_that_ends_with_its_connection_is_whole(sent: bytes, autojump_clock: object) -> None:
    """The client gets it chunked and keeps its own connection; the upstream's is gone."""
    async with world(CONFIG, saying(sent + b"until the end", sent)) as here:
        client = await here.client()
        answer = await client.get("/orchestrator/users")
        assert (answer.body, answer.values("transfer-encoding")) == (b"until the end", ["chunked"])
        assert (await client.get("/orchestrator/users")).body == b""
        assert idle(here) == 0


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        (b"Connection: close", False),
        (b"Connection: keep-alive", True),
        (b"Keep-Alive: timeout=1", True),
        (b"X: y", True),
    ],
)
async def test_the_upstream_decides_whether_its_connection_is_kept(
    field: bytes, kept: bool, autojump_clock: object
) -> None:
    """`Connection: close` ends it, and a promised keep-alive time bounds how long it idles."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.reply(b"ok", field)

    async with world(CONFIG, script) as here:
        await here.get("/orchestrator/users")
        assert idle(here) == int(kept)
        await trio.sleep(2.1)
        assert idle(here) == int(kept and not field.startswith(b"Keep-Alive"))


async def test_interim_replies_pass_and_100_does_not(autojump_clock: object) -> None:
    """103 goes to the client with its fields; an upstream's 100 was ours to say."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nSet-Cookie: a\r\n\r\n"
    reply = b"HTTP/1.1 100 Continue\r\n\r\n" + hints + HEAD + b"Content-Length: 2\r\n\r\nok"
    async with world(CONFIG, saying(reply)) as here:
        client = await here.client()
        await client.send(request("/orchestrator/users"))
        raw = await client.link.receive()
        assert raw.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        assert raw.endswith(b"\r\n\r\nok") or (await client.link.receive()).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("count", [1, 8])
async def test_interim_replies_are_seen_in_order(count: int, autojump_clock: object) -> None:
    """Up to eight of them, sent one by one, come before the final reply."""

    async def script(wire: Wire) -> None:
        await wire.request()
        for _ in range(count):
            await wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await trio.sleep(0.1)
        await wire.reply()

    async with world(CONFIG, script) as here:
        answer = await here.get("/orchestrator/users")
        assert (answer.interim, answer.status) == ([103] * count, 200)


async def test_a_client_slow_to_take_hints_leaves_the_timeout_in_force(autojump_clock: object) -> None:
    """While it takes them the upstream's clock stands still; then it runs on, and an answer comes."""

    async def script(wire: Wire) -> None:
        await wire.request()
        with contextlib.suppress(OSError):
            for _ in range(8):
                await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (b"a" * 60_000))
        await wire.closed()

    async with world(CONFIG, script) as here:
        client = await here.client()
        began = trio.current_time()
        await client.send(request("/orchestrator/users"))
        await trio.sleep(20)
        with trio.fail_after(60):
            raw = b""
            while b"HTTP/1.1 504" not in raw:
                raw = raw[-20:] + await client.link.receive()
        assert trio.current_time() - began == pytest.approx(25, abs=0.1)  # 20 s of its own, 5 s of `timeout`


@pytest.mark.parametrize(
    ("meanwhile", "latest", "expected"),
    [
        (None, math.inf, (Wait.UPSTREAM_HEAD, 8 + 5)),
        (Wait.CLIENT_BODY, math.inf, (Wait.CLIENT_BODY, 8 + 30)),
        (Wait.CLIENT_BODY, 20, (Wait.TOTAL, 20)),
    ],
    ids=["nothing", "the upload asked the client for more", "until the total is over"],
)
async def test_a_slow_interim_reply_gives_back_the_time_that_was_left(
    meanwhile: Wait | None, latest: float, expected: tuple[Wait, int], made: Made, autojump_clock: object
) -> None:
    """Of the wait that it interrupted; unless that is over, and the exchange waits for something else."""
    exchange = made()
    exchange.latest = latest
    near, far = socket.socketpair()
    made.sockets += [near, far]
    near.setblocking(False)

    class SlowWriter(H1Writer):
        async def interim(self, status: int, headers: object) -> None:
            exchange.stand_still()
            await trio.sleep(8)
            if meanwhile is not None:
                exchange.wait_for(meanwhile, 30)

    exchange.writer = SlowWriter(Link(near, ("a", 1), ("b", 2)), exchange.request, NoBody(), keep_alive=True)
    exchange.wait_for(Wait.UPSTREAM_HEAD, 5.0)
    far.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
    head, _ = await read_head(exchange, Link(near, ("a", 1), ("b", 2)))
    assert head.status == 200
    assert (exchange.waiting, exchange.deadline) == expected


async def test_http_1_0_clients_get_no_interim_reply(autojump_clock: object) -> None:
    """They would take it for the final one."""
    reply = b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"
    async with world(CONFIG, saying(reply)) as here:
        client: RawClient = await here.client()
        await client.send(request("/orchestrator/users", version="1.0"))
        answer = await client.answer()
        assert (answer.interim, answer.status, answer.body) == ([], 200, b"ok")
