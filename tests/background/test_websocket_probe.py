"""The WebSocket probe against a real server, scripted ones, and what is none."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_server_stream

from tests.support.upstream import Received, Script, Upstream, Wire
from trio_gateway.background.dial import Dial, ProbeFailed
from trio_gateway.background.websocket_probe import WebSocketProbe
from trio_gateway.config.model import EndpointConfig, HealthCheckConfig
from trio_gateway.domain.health import Check
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.server.link_stream import LinkStream

CHECK = Check.of(
    EndpointConfig(
        url="http://a.example:8080/v1?x=1",
        name="a",
        health_check_path="live?token=a%20b",
        health_check=HealthCheckConfig(type="websocket"),
    )
)
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # masked by zeros, code 1000


@asynccontextmanager
async def backend(script: Script) -> AsyncIterator[WebSocketProbe]:
    """A backend and a probe that reaches it; afterwards no connection is left open."""
    network, upstream = MemoryNetwork(), Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, "a.example", 8080)
        yield WebSocketProbe(Dial(network))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert upstream.open == 0
        nursery.cancel_scope.cancel()


async def accept(wire: Wire) -> Received:
    """Take the handshake (RFC 6455 4.2.2)."""
    request = await wire.request()
    (key,) = request.values(b"sec-websocket-key")
    token = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    await wire.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n"
    )
    return request


async def answer_ping(wire: Wire) -> None:
    """Send the pong that belongs to the ping that comes."""
    ping = await wire.link.receive()
    size, mask = ping[1] & 0x7F, ping[2:6]
    payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(ping[6 : 6 + size]))
    await wire.send(bytes((0x8A, size)) + payload)


async def test_a_server_of_the_library_is_alive() -> None:
    """Handshake, ping, and a clean close as the server sees it."""
    seen = []

    async def script(wire: Wire) -> None:
        async with trio.open_nursery() as nursery:
            asked = await wrap_server_stream(nursery, LinkStream(wire.link))  # type: ignore[arg-type]
            connection = await asked.accept()
            with pytest.raises(ConnectionClosed) as closed:
                await connection.get_message()
            seen.append((asked.path, closed.value.reason.code))

    async with backend(script) as probe:
        await probe(CHECK)
    assert seen == [("/live?token=a%20b", 1000)]


async def test_what_is_asked_and_said() -> None:
    """Target and Host are the joined url's; the close is said, and nobody waits for its answer."""
    requests, farewells = [], []

    async def script(wire: Wire) -> None:
        requests.append(await accept(wire))
        await answer_ping(wire)
        farewells.append(await wire.link.receive())
        assert await wire.link.receive() == b""

    async with backend(script) as probe:
        await probe(CHECK)
    (request,) = requests
    assert (request.method, request.target) == (b"GET", b"/live?token=a%20b")
    assert request.values(b"host") == [b"a.example:8080"]
    assert request.values(b"sec-websocket-extensions") == []
    assert farewells == [CLOSE]


async def test_messages_before_the_pong_do_not_matter() -> None:
    """A server that greets with a lot is alive when the pong comes in the end."""

    async def script(wire: Wire) -> None:
        await accept(wire)
        await wire.send(b"\x81\x02hi" * 1000)
        await answer_ping(wire)
        await wire.closed()

    async with backend(script) as probe:
        await probe(CHECK)


async def chatter(wire: Wire) -> None:
    await accept(wire)
    while True:
        await wire.send(b"\x82\x7e\x03\xe8" + b"x" * 1000)


async def leave(wire: Wire) -> None:
    await wire.request()


async def leave_after_the_handshake(wire: Wire) -> None:
    await accept(wire)
    await wire.link.receive()


async def say_goodbye(wire: Wire) -> None:
    await accept(wire)
    await wire.link.receive()
    await wire.send(b"\x88\x02\x03\xe9")
    await wire.link.receive()


async def refuse(wire: Wire) -> None:
    await wire.request()
    await wire.reply(b"go away", status=b"403 Forbidden")


async def refuse_without_a_body(wire: Wire) -> None:
    await wire.request()
    await wire.reply(b"", status=b"426 Upgrade Required")


async def agree_without_the_token(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await wire.closed()


async def speak_something_else(wire: Wire) -> None:
    await wire.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await wire.closed()


async def break_the_framing(wire: Wire) -> None:
    await accept(wire)
    await wire.send(b"\xff\xff\xff\xff")
    await wire.closed()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (refuse, "^status 403$"),
        (refuse_without_a_body, "^status 426$"),
        (leave, "^the connection was closed$"),
        (leave_after_the_handshake, "^the connection was closed$"),
        (say_goodbye, "^the connection was closed$"),
        (agree_without_the_token, "^no valid WebSocket$"),
        (speak_something_else, "^no valid WebSocket$"),
        (break_the_framing, "^no valid WebSocket$"),
        (chatter, "^no answer to a ping within 65536 bytes$"),
    ],
)
async def test_what_is_no_websocket_is_no_life(script: Script, why: str) -> None:
    """Each way to fail ends the probe at once and says why."""
    async with backend(script) as probe:
        with trio.fail_after(5), pytest.raises(ProbeFailed, match=why):
            await probe(CHECK)


async def test_a_reset_is_the_connections_error() -> None:
    """It comes out as the OSError that it is, not in a group."""

    async def script(wire: Wire) -> None:
        await wire.link.readable()
        wire.link.close()  # with the request unread: a reset

    async with backend(script) as probe:
        with trio.fail_after(5), pytest.raises(OSError, match="reset"):
            await probe(CHECK)


@pytest.mark.parametrize("greeted", [False, True])
async def test_cancelled_it_leaves_nothing_open(
    greeted: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """In the handshake or behind the ping: the backend sees the connection end."""

    async def script(wire: Wire) -> None:
        if greeted:
            await accept(wire)
        await wire.closed()

    async with backend(script) as probe:
        with trio.move_on_after(1) as patience:
            await probe(CHECK)
        assert patience.cancelled_caught
