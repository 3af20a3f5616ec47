"""Bodies both ways: slow readers, early replies, both directions at once, trailers."""

from __future__ import annotations

import h11
import pytest
import trio
import trio.testing

from tests.support.client import RawClient, request
from tests.support.timed import HEAD, USERS, failures, timed
from tests.support.upstream import Received, Wire
from trio_gateway.proxy.relay import trailers_to_pass

# ---- clients that don't read ------------------------------------------------------------------------


async def endless(wire: Wire) -> None:
    await wire.request()
    await wire.send(HEAD)
    while True:
        await wire.send(b"2710\r\n%b\r\n" % bytes(10_000))


async def test_a_client_that_never_reads_is_cut_at_write(autojump_clock: object) -> None:
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


async def test_a_client_that_reads_slowly_holds_its_upstream_without_blame(autojump_clock: object) -> None:
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


async def test_a_client_that_sips_a_reply_is_cut_by_min_rate(autojump_clock: object) -> None:
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
async def test_a_reply_during_an_upload_is_relayed_at_once(closing: bool, autojump_clock: object) -> None:
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


async def test_an_upload_goes_on_while_its_reply_streams(autojump_clock: object) -> None:
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
    te: list[str], passed: list[tuple[bytes, bytes]], autojump_clock: object
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
