"""What each sample backend does, asked directly."""

from __future__ import annotations

import hashlib
import json

import trio.testing

from tests.demo.test_backend import client_of
from tests.support.client import request
from tests.support.websocket import FIELDS, handshake, shake_hands
from trio_gateway.demo.samples import Events, Flaky, Users


async def test_users_tells_what_it_received() -> None:
    """Target and fields come back as they arrived, and the body as its digest."""
    users = Users()
    async with client_of(users) as client:
        await client.send(request("/a%2Fb?x&x", "X-One: 1", method="POST", body=b"hello"))
        told = json.loads((await client.answer("POST")).body)
    assert (told["method"], told["target"]) == ("POST", "/a%2Fb?x&x")
    assert ["X-One", "1"] in told["headers"]
    assert told["body"] == {"bytes": 5, "sha256": hashlib.sha256(b"hello").hexdigest()}
    assert users.received == 5


async def test_events_come_one_by_one(autojump_clock: trio.testing.MockClock) -> None:
    """The head opens at once, then an event each interval, then the end."""
    events = Events()
    async with client_of(events) as client:
        began = trio.current_time()
        await client.send(request("/?count=2&every=10"))
        head = await client.head()
        assert head.value("Content-Type") == "text/event-stream"
        assert trio.current_time() == began
        for index in (1, 2):
            piece = await client.piece()
            assert piece is not None
            assert piece.startswith(b"id: %d\ndata: {" % index)
            assert trio.current_time() - began == 10 * index
            assert events.sent == index
        assert await client.piece() is None
        await trio.testing.wait_all_tasks_blocked()
        assert events.streams == 0


async def test_a_stream_ends_with_its_client() -> None:
    """Nobody is left to send to."""
    events = Events()
    async with client_of(events) as client:
        await client.send(request("/?every=3600"))
        await client.head()
        assert events.streams == 1
        client.link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert events.streams == 0


async def test_users_echoes_a_websocket() -> None:
    """Each message comes back, and the goodbye with its code; a malformed handshake ends the connection."""
    async with client_of(Users()) as client:
        peer = await shake_hands(client.link, target="/echo")
        await peer.send(b"hello")
        assert await peer.message() == b"hello"
        await peer.close(4000)
        assert await peer.goodbye() == (4000, "")
        await peer.end()
    async with client_of(Users()) as client:
        await client.send(handshake(target="/echo", asked=FIELDS[:2]))
        assert await client.at_end()


async def test_flaky_fails_between_break_and_mend() -> None:
    """The two switches tell how it stands; they are no requests of their own."""
    flaky = Flaky()
    async with client_of(flaky) as client:
        statuses = [(await client.get("/")).status]
        assert json.loads((await client.get("/break", method="POST")).body)["failing"] is True
        statuses.append((await client.get("/x")).status)
        assert json.loads((await client.get("/mend", method="POST")).body)["failing"] is False
        statuses.append((await client.get("/break")).status)
    assert statuses == [200, 503, 200]
    assert flaky.requests == 3


async def test_flaky_takes_the_time_it_is_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    """A slow answer is an answer."""
    async with client_of(Flaky()) as client:
        began = trio.current_time()
        assert (await client.get("/slow?seconds=7")).status == 200
        assert trio.current_time() - began == 7


async def test_flaky_hangs_until_its_client_leaves() -> None:
    """It neither answers nor closes."""
    flaky = Flaky()
    async with client_of(flaky) as client:
        await client.send(request("/hang"))
        await trio.testing.wait_all_tasks_blocked()
        assert flaky.requests == 1
        assert client.link.receive_nowait() is None
