"""What comes before the first request: a connection is its real client's, or it is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import trio
from structlog.testing import capture_logs

from tests.support.client import Answer, RawClient, request
from tests.support.gateway import World, world
from tests.support.stage import recording
from tests.support.upstream import Received
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.server.opening import read_proxy_header
from trio_gateway.wire.proxy_protocol import BadProxyHeader

USERS = "/orchestrator/users"
CONFIG = """
server:
  bind: [{address: "127.0.0.1:8000", proxy_protocol: true}]
  trusted_proxies: [127.0.0.0/8]
  timeouts: {head: 5s}
endpoints:
  - {url: "http://backend.example/", name: users, deny: [203.0.113.0/24]}
"""
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


@asynccontextmanager
async def proxied(seen: list[Received] | None = None) -> AsyncIterator[World]:
    """A gateway that takes connections from a proxy on this machine alone."""
    async with world(CONFIG, recording([] if seen is None else seen)) as here:
        here.network.client_host = "127.0.0.9"
        yield here
        for client in here.clients:
            client.link.close()
        await trio.sleep(3)
        assert here.idle()
        assert not here.gateway.server.lanes


async def asked(here: World, header: bytes, *fields: str) -> tuple[RawClient, Answer]:
    client = await here.client()
    await client.send(header + request(USERS, *fields))
    return client, await client.answer()


async def pair() -> tuple[Link, Link]:
    network = MemoryNetwork(client_host="127.0.0.9")
    (listener,) = await network.listen("127.0.0.1", 8000)
    client = await network.connect("127.0.0.1", 8000)
    gateway = await listener.accept()
    return client, gateway


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_client_is_who_the_header_says(header: bytes, autojump_clock: object) -> None:
    """For the upstream, the rules and the access log; what it says of others itself is not believed."""
    seen: list[Received] = []
    async with proxied(seen) as here:
        client, answer = await asked(here, header, "X-Forwarded-For: 10.9.9.9")
        assert answer.status == 200
        assert seen[-1].values(b"x-forwarded-for") == [b"192.0.2.7"]
        assert here.lines[-1][2] == "192.0.2.7"
        assert (await client.get(USERS)).status == 200
        _, refused = await asked(here, V1.replace(b"192.0.2.7", b"203.0.113.5"))
        assert refused.status == 403


async def test_a_proxy_that_speaks_for_itself_is_the_client(autojump_clock: object) -> None:
    """LOCAL is its own health check, and its word about others still counts."""
    seen: list[Received] = []
    async with proxied(seen) as here:
        _, answer = await asked(here, V2_LOCAL, "X-Forwarded-For: 192.0.2.1")
        assert answer.status == 200
        assert seen[-1].values(b"x-forwarded-for") == [b"192.0.2.1, 127.0.0.9"]
        assert here.lines[-1][2] == "192.0.2.1"


@pytest.mark.parametrize("header", [V1, V2, V2_LOCAL])
async def test_exactly_the_header_is_read(header: bytes, autojump_clock: object) -> None:
    """Whatever stands behind it is TLS's or HTTP's, and is still in the kernel."""
    client, gateway = await pair()
    await client.send(header + b"\x16\x03\x01")
    await read_proxy_header(gateway, [ip_network("127.0.0.0/8")])
    assert gateway.receive_nowait() == b"\x16\x03\x01"
    for end in (client, gateway):
        end.close()


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_header_may_come_byte_by_byte(header: bytes, autojump_clock: object) -> None:
    """Its reader waits for each without turning in a loop."""
    seen: list[Received] = []
    async with proxied(seen) as here:
        client = await here.client()
        for byte in header:
            await client.send(bytes([byte]))
            await trio.sleep(0.05)
        assert (await client.get(USERS)).status == 200
        assert seen[-1].values(b"x-forwarded-for") == [b"192.0.2.7"]


@pytest.mark.parametrize("opening", [request(USERS), b"\x16\x03\x01\x00\xa5\x01", b"PROXY TCP4 x y 1 2\r\n"])
async def test_what_begins_otherwise_is_closed_unanswered(opening: bytes, autojump_clock: object) -> None:
    """Counted, and told once a second."""
    async with proxied() as here:
        with capture_logs() as logged:
            for _ in range(3):
                client = await here.client()
                await client.send(opening)
                assert await client.at_end()
        told = [entry["event"] for entry in logged if "PROXY" in entry["event"]]
        assert told == ["a connection's PROXY header was refused"]
        assert here.gateway.runtime.metrics.connections_refused["proxy_header"] == 3
        assert here.backend.connections == 0


async def test_nobody_but_a_trusted_proxy_may_speak_for_others(autojump_clock: object) -> None:
    """The header of anybody else closes the connection, however well it is made."""
    async with proxied() as here:
        here.network.client_host = "192.0.2.99"
        client = await here.client()
        await client.send(V1 + request(USERS))
        assert await client.at_end()
        assert here.gateway.runtime.metrics.connections_refused["proxy_header"] == 1
        assert here.backend.connections == 0


@pytest.mark.parametrize("part", [b"", V1[:9], V2[:20]])
async def test_a_header_that_does_not_come_is_not_waited_for(part: bytes, autojump_clock: object) -> None:
    """`timeouts.head` bounds it; within a second of that the sweep has closed the connection."""
    async with proxied() as here:
        client = await here.client()
        await client.send(part)
        with trio.fail_after(6.5):
            assert await client.at_end()
        assert trio.current_time() > 4


@pytest.mark.parametrize("part", [b"", V1[:9], V2[:20]])
async def test_who_leaves_inside_the_header_is_no_bug(part: bytes, autojump_clock: object) -> None:
    """Load balancers look whether a port is open and go."""
    client, gateway = await pair()
    await client.send(part)
    client.close()
    with pytest.raises(OSError, match="left"):
        await read_proxy_header(gateway, [ip_network("127.0.0.0/8")])
    with pytest.raises(BadProxyHeader):
        await read_proxy_header(gateway, [])
    gateway.close()
