"""The HTTP probe against scripted backends: what it sends, which replies are alive, how much it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.faults import fault, through
from tests.support.upstream import Script, Upstream, Wire
from trio_gateway.background.dial import MAX_ANSWER, Dial, ProbeFailed
from trio_gateway.background.http_probe import HttpProbe
from trio_gateway.config.model import EndpointConfig, HealthCheckConfig
from trio_gateway.domain.health import Check
from trio_gateway.proxy.link import READ_SIZE, Link
from trio_gateway.proxy.network import MemoryNetwork

pytestmark = through("gateway")


def check(url: str = "http://a.example/v1", path: str | None = "/health", **rules: Any) -> Check:
    health_check = HealthCheckConfig(**rules)
    return Check.of(EndpointConfig(url=url, name="a", health_check_path=path, health_check=health_check))


def saying(reply: bytes) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(reply)

    return script


@asynccontextmanager
async def backend(script: Script, host: str = "a.example", port: int = 80) -> AsyncIterator[HttpProbe]:
    """A backend at http://a.example and a probe that reaches it; afterwards no connection is left open."""
    network = MemoryNetwork()
    upstream = Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, host, port)
        yield HttpProbe(Dial(network))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert upstream.open == 0
        nursery.cancel_scope.cancel()


async def test_what_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    """One plain GET to the joined url, to the byte, on a connection that ends with it."""
    requests = []

    async def script(wire: Wire) -> None:
        requests.append(await wire.request())
        await wire.reply()
        await wire.closed()

    async with backend(script, port=8080) as probe:
        await probe(check("http://a.example:8080/v1?x=1", "up/%7Eme?a=%20b|c&d"))
        await probe(check("http://a.example:8080/v1?x=1|2", None))
    assert [(request.method, request.target) for request in requests] == [
        (b"GET", b"/up/%7Eme?a=%20b|c&d"),
        (b"GET", b"/v1?x=1|2"),
    ]
    assert sorted((name.lower(), value) for name, value in requests[0].headers) == [
        (b"accept", b"*/*"),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
        (b"host", b"a.example:8080"),
        (b"user-agent", b"trio-gateway"),
    ]


async def test_the_configured_method_is_sent(autojump_clock: trio.testing.MockClock) -> None:
    """HEAD waits for no body, POST sends an empty one."""
    methods = []

    async def script(wire: Wire) -> None:
        request = await wire.request()
        methods.append((request.method, request.values(b"content-length")))
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + b"ok" * (request.method != b"HEAD"))

    async with backend(script) as probe:
        await probe(check(method="HEAD"))
        await probe(check(method="POST"))
    assert methods == [(b"HEAD", []), (b"POST", [b"0"])]


@pytest.mark.parametrize(
    ("path", "status", "alive"),
    [
        ("/health", 204, True),
        ("/health", 302, True),
        ("/health", 404, False),
        ("/health", 503, False),
        (None, 401, True),
        (None, 404, True),
        (None, 302, True),
        (None, 500, False),
    ],
)
async def test_statuses(
    path: str | None, status: int, alive: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """The check judges them; a refused one stands in the reason."""
    reply = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
    async with backend(saying(reply)) as probe:
        if alive:
            await probe(check(path=path))
        else:
            with pytest.raises(ProbeFailed, match=f"^status {status}$"):
                await probe(check(path=path))


@pytest.mark.parametrize("location", [b"/elsewhere", b"http://b.example:99999999/", b"gopher://[", b"\xff"])
async def test_redirects_are_not_followed(location: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """A redirect is an answer: nobody goes where it points, not even in thought."""
    asked = []

    async def script(wire: Wire) -> None:
        asked.append((await wire.request()).target)
        await wire.reply(b"", b"Location: " + location, status=b"307 Temporary Redirect")

    async with backend(script) as probe:
        await probe(check())
    assert asked == [b"/health"]


@fault("H7")
async def test_cookies_are_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    """What a reply sets is not sent the next time."""
    cookies = []

    async def script(wire: Wire) -> None:
        cookies.append((await wire.request()).values(b"cookie"))
        await wire.reply(b"ok", b"Set-Cookie: session=1; Path=/")

    async with backend(script) as probe:
        await probe(check())
        await probe(check())
    assert cookies == [[], []]


async def test_bodies_are_not_decoded(autojump_clock: trio.testing.MockClock) -> None:
    """A coding that isn't one is nothing to a probe."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"
    async with backend(saying(reply)) as probe:
        await probe(check())


async def test_an_ipv6_backend_is_named_in_brackets(autojump_clock: trio.testing.MockClock) -> None:
    """The Host field has them, the address that is dialled has not."""
    hosts = []

    async def script(wire: Wire) -> None:
        hosts.append((await wire.request()).values(b"host"))
        await wire.reply()

    async with backend(script, "::1", 8080) as probe:
        await probe(check("http://[::1]:8080/"))
    assert hosts == [[b"[::1]:8080"]]


async def test_informational_replies_are_skipped(autojump_clock: trio.testing.MockClock) -> None:
    """The final status is judged, not a 103 before it."""
    reply = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with backend(saying(reply)) as probe:
        await probe(check(expected_statuses=("200",)))


# ---- how much is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"]
)
async def test_no_more_than_64_kib_are_read(framing: bytes) -> None:
    """A reply without end is alive, and the backend finds its connection closed after the first 64 KiB."""
    taken = 0

    class Counting(Link):
        def receive_nowait(self, size: int = READ_SIZE) -> bytes | None:
            nonlocal taken
            data = super().receive_nowait(size)
            taken += len(data or b"")
            return data

    class CountedNetwork(MemoryNetwork):
        async def connect(self, host: str, port: int) -> Link:
            link = await super().connect(host, port)
            return Counting(link._sock, link.peer, link.local)

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n" + framing)
        while True:
            await wire.send(b"400\r\n" + b"x" * 1024 + b"\r\n")

    network, upstream = CountedNetwork(), Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, "a.example", 80)
        with trio.fail_after(5):
            await HttpProbe(Dial(network))(check())
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert upstream.open == 0
        nursery.cancel_scope.cancel()
    assert taken == MAX_ANSWER == 64 * 1024


async def test_a_stream_at_the_bare_url_is_alive(autojump_clock: trio.testing.MockClock) -> None:
    """Without a path the head is enough: nobody waits for the end of an event stream."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await wire.closed()

    async with backend(script) as probe:
        with trio.fail_after(1):
            await probe(check(path=None))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "no valid HTTP: the connection ended before a whole head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "no valid HTTP: the body ended early"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no valid HTTP: "),
        (b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no valid HTTP: another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "no valid HTTP: two lengths"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no valid HTTP: no HTTP/1.x status line"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Filler: y\r\n" * 10_000, "no whole head within 65536 bytes"),
    ],
)
async def test_what_is_no_whole_reply_is_no_life(
    reply: bytes, why: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Cut, garbled and endless heads fail, and the reason says how."""
    async with backend(saying(reply)) as probe:
        with pytest.raises(ProbeFailed, match=why):
            await probe(check())


async def test_a_reset_is_the_connections_error(autojump_clock: trio.testing.MockClock) -> None:
    """It comes out as the OSError that it is."""

    async def script(wire: Wire) -> None:
        wire.link.close()  # with the request unread: a reset

    async with backend(script) as probe:
        with pytest.raises(OSError, match="reset"):
            await probe(check())


async def test_an_answer_before_the_request_was_read_counts(autojump_clock: trio.testing.MockClock) -> None:
    """A backend that answers, closes, and never reads is judged by its answer."""

    async def script(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        wire.link.shutdown_write()
        await wire.closed()

    async with backend(script) as probe:
        with pytest.raises(ProbeFailed, match="status 503"):
            await probe(check())


async def test_cancelled_it_leaves_nothing_open(autojump_clock: trio.testing.MockClock) -> None:
    """In the head or in the body: the backend sees the connection end at once."""
    for begun in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"):

        async def script(wire: Wire, begun: bytes = begun) -> None:
            await wire.request()
            await wire.send(begun)
            await wire.closed()

        async with backend(script) as probe:
            with trio.move_on_after(1) as scope:
                await probe(check())
            assert scope.cancelled_caught
