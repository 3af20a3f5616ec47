"""The lane: one HTTP/1.1 connection from its first byte to its last."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.support.client import RawClient, request
from tests.support.faults import fault, through
from tests.support.lane import USERS, drip, exchange, gateway, is_closed
from tests.support.upstream import Wire

pytestmark = through("lane")


async def echo(wire: Wire) -> None:
    """Answers each request with its target."""
    while True:
        await wire.reply((await wire.request()).target)


# ---- keep-alive and pipelining ---------------------------------------------------------------------


async def test_a_connection_serves_one_request_after_the_other(autojump_clock: object) -> None:
    """HTTP/1.1 keeps the connection without being asked, in both directions."""
    async with gateway(echo) as here:
        client = await here.client()
        for number in range(20):
            answer = await client.get(f"{USERS}/{number}")
            assert (answer.status, answer.body) == (200, b"/%d" % number)
            assert not answer.values("connection")
            await trio.sleep(1)
        assert here.backend.connections == 1


async def test_pipelined_requests_are_answered_in_order(autojump_clock: object) -> None:
    """Though the first takes longest, and with bodies between them."""

    async def script(wire: Wire) -> None:
        while True:
            received = await wire.request()
            await trio.sleep(1 if received.target == b"/0" else 0)
            await wire.reply(received.target + received.body)

    async with gateway(script) as here:
        client = await here.client()
        await client.send(
            b"".join(
                request(f"{USERS}/{n}", method="POST" if n % 2 else "GET", body=b"b%d" % n if n % 2 else b"")
                for n in range(10)
            )
        )
        bodies = [(await client.answer()).body for _ in range(10)]
        assert bodies == [b"/%d" % n + (b"b%d" % n if n % 2 else b"") for n in range(10)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_requests_mean_the_same_however_they_are_cut(size: int, autojump_clock: object) -> None:
    """Heads, chunked bodies and what is pipelined behind them, in pieces of any size."""
    chunked = request(f"{USERS}/b", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n"
    stream = request(f"{USERS}/a") + chunked + b"\r\n" + request(f"{USERS}/c", method="PUT", body=b"xyz")

    async def script(wire: Wire) -> None:
        while True:
            received = await wire.request()
            await wire.reply(received.target + received.body)

    async with gateway(script) as here:
        client = await here.client()
        for at in range(0, len(stream), size):
            await client.send(stream[at : at + size])
            await trio.sleep(0.01)
        assert [(await client.answer()).body for _ in range(3)] == [b"/a", b"/babc", b"/cxyz"]


@fault("C8")
@pytest.mark.parametrize(
    ("version", "fields", "reply", "kept"),
    [
        ("1.1", [], [], True),
        ("1.1", ["Connection: close"], ["close"], False),
        ("1.1", ["Connection: x, Close"], ["close"], False),
        ("1.0", [], ["close"], False),
        ("1.0", ["Connection: keep-alive"], ["keep-alive"], True),
        ("1.0", ["Connection: keep-alive, close"], ["close"], False),
    ],
)
async def test_the_client_decides_whether_its_connection_is_kept(
    version: str, fields: list[str], reply: list[str], kept: bool, autojump_clock: object
) -> None:
    """And hears of it; a connection that is not kept is closed at once."""
    async with gateway() as here:
        client, answer = await exchange(here, request(USERS, *fields, version=version))
        assert (answer.body, answer.values("connection")) == (b"ok", reply)
        assert await is_closed(client) is not kept


async def test_requests_per_connection_are_bounded(autojump_clock: object) -> None:
    """The last one says so, and closes without a reset, though more was pipelined."""
    async with gateway(limits="requests_per_connection: 2") as here:
        client = await here.client()
        await client.send(request(USERS) * 2)
        assert [(await client.answer()).values("connection") for _ in range(2)] == [[], ["close"]]
        await client.send(request(USERS))
        assert await is_closed(client)
        assert len(here.lines) == 2


async def test_a_reply_without_length_ends_with_an_http_1_0_connection(autojump_clock: object) -> None:
    """HTTP/1.0 has no chunks; `Connection: keep-alive` can't help it."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        await wire.closed()

    async with gateway(script) as here:
        _client, answer = await exchange(here, request(USERS, "Connection: keep-alive", version="1.0"))
        assert (answer.body, answer.values("connection")) == (b"ok", ["close"])
        assert not answer.values("transfer-encoding")


@pytest.mark.parametrize(
    ("method", "status", "length", "body"),
    [
        ("HEAD", b"200 OK", ["7"], b""),
        ("GET", b"304 Not Modified", ["7"], b""),
        ("GET", b"204 No Content", [], b""),
        ("GET", b"205 Reset Content", ["0"], b"Content-Length: 0"),
    ],
)
async def test_replies_without_a_body_leave_the_connection_usable(
    method: str, status: bytes, length: list[str], body: bytes, autojump_clock: object
) -> None:
    """Their Content-Length says what a body would have, and the next reply is read as such."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 " + status + b"\r\n" + (body or b"Content-Length: 7") + b"\r\n\r\n")

    async with gateway(script) as here:
        client = await here.client()
        for _ in range(3):
            answer = await client.get(USERS, method=method)
            assert (answer.status, answer.body) == (int(status[:3]), b"")
            assert answer.values("content-length") == length
        assert here.backend.connections == 1


# ---- timers -----------------------------------------------------------------------------------------


@fault("C3")
@pytest.mark.parametrize(
    ("sent", "answered", "seconds"),
    [(b"", False, 5), (b"GET /orch", True, 5), (b"\r\n\r\n", False, 5), (b"GET / HTTP/1.1\r\nX: y", True, 5)],
)
async def test_a_head_that_does_not_come_costs_its_connection(
    sent: bytes, answered: bool, seconds: float, autojump_clock: object
) -> None:
    """408 where one had begun, and a plain close where none had."""
    async with gateway() as here:
        client = await here.client()
        await client.send(sent)
        if answered:
            answer = await client.answer()
            assert answer.status == 408
            assert answer.values("connection") == ["close"]
            assert json.loads(answer.body)["request_id"] == answer.value("x-request-id")
        assert await client.at_end()
        assert seconds <= trio.current_time() <= seconds + 1.1


@fault("C3")
async def test_a_head_that_drips_is_cut_at_its_time(autojump_clock: object) -> None:
    """The timer runs from the head's first byte, not from its last."""
    async with gateway() as here:
        client = await here.client()
        await client.get(USERS)
        await trio.sleep(10)
        here.nursery.start_soon(drip, client, request(USERS), 1.0)
        assert (await client.answer()).status == 408
        assert 15 <= trio.current_time() <= 16.1


@fault("C8")
async def test_an_idle_connection_is_closed_at_keep_alive(autojump_clock: object) -> None:
    """Counted from the last reply, in silence, and empty lines don't help."""
    async with gateway() as here:
        client = await here.client()
        await client.get(USERS)
        await trio.sleep(19)
        await client.get(USERS)
        await trio.sleep(10)
        await client.send(b"\r\n")
        assert await client.at_end()
        assert 39 <= trio.current_time() <= 40.1


async def test_a_long_exchange_is_nobodys_idle_connection(autojump_clock: object) -> None:
    """Neither head nor keep-alive timers run while a reply is made."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(29)
        await wire.reply()

    async with gateway(script) as here:
        assert (await here.get(USERS)).status == 200


# ---- ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"GET /orch", request(USERS)[:-2]])
async def test_a_client_that_leaves_before_its_request_leaves_nothing(
    data: bytes, autojump_clock: object
) -> None:
    """No answer, no line in the log, no bug."""
    async with gateway() as here:
        client = await here.client()
        await client.send(data)
        client.link.close()
        await trio.sleep(0.1)
        assert not here.gateway.server.lanes
        assert here.lines == []


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_refusal_survives_the_body_behind_it(size: int, autojump_clock: object) -> None:
    """What is unread is drained within bounds before the close: a reset would eat the answer."""
    async with gateway() as here:
        client = await here.client()
        head = request("/orchestrator/closed", f"Content-Length: {size}", method="POST")
        await client.send(head + bytes(size // 2))
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.answer()).status == 503
        await client.send(bytes(size // 2))
        assert await is_closed(client)


async def test_lingering_is_bounded(autojump_clock: object) -> None:
    """A client that goes on sending is cut after two seconds, or 256 KiB."""
    async with gateway() as here:
        client = await here.client()
        await client.send(request("/orchestrator/closed", "Content-Length: 9000000", method="POST"))
        assert (await client.answer()).status == 503
        began = trio.current_time()
        with pytest.raises(OSError):
            await send_forever(client, 1)
        assert trio.current_time() - began < 4

        client = await here.client()
        await client.send(request("/orchestrator/closed", "Content-Length: 9000000", method="POST"))
        with pytest.raises(OSError):
            await send_forever(client, 100_000)


async def send_forever(client: RawClient, size: int) -> None:
    for _ in range(1000):
        await client.send(bytes(size))
        await trio.sleep(0.5 if size == 1 else 0)


async def test_a_gateway_behind_trusted_proxies_sees_their_client(autojump_clock: object) -> None:
    """The log names the first untrusted address from the right."""
    async with gateway(server="trusted_proxies: [127.0.0.0/8]") as here:
        await here.get(USERS, "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.5")
        assert here.lines[0][2] == "203.0.113.9"


@pytest.mark.parametrize("inbound", ["abc-123", "x" * 128])
async def test_an_acceptable_request_id_is_kept(inbound: str, autojump_clock: object) -> None:
    """The reply and the log carry it, whatever the field's case."""
    async with gateway() as here:
        answer = await here.get(USERS, f"x-request-ID: {inbound}")
        assert answer.value("x-request-id") == inbound
        assert here.lines[0][1] == inbound.encode()
