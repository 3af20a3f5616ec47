"""One exchange between a protocol and an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import define, field
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol.events import Body, EndBody, Event, Request, Response, StreamClosed
from hypercorn.typing import ConnectionState
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_gateway.server.asgi_stream import EXTENSION, INTERIM, AsgiStream

App = Callable[[Any, Any, Any], Awaitable[None]]


@define
class Spawner:
    """What a stream needs of a task group."""

    nursery: trio.Nursery

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        """Start the application."""
        self.nursery.start_soon(function)


@define
class Protocol:
    """A protocol that notes the events it is sent."""

    nursery: trio.Nursery
    app: App
    method: str = "GET"
    events: list[Event] = field(factory=list)

    def begin(self) -> AsgiStream:
        """A stream whose application starts."""
        parts = (ASGIWrapper(self.app), Config(), None, Spawner(self.nursery), False, ("192.0.2.7", 1), None)
        stream = AsgiStream(*parts, self.take, 1)
        stream.begin(
            Request(
                stream_id=1,
                headers=[(b"host", b"a")],
                http_version="2",
                method=self.method,
                raw_path=b"/a%2Fb?c=%20",
                state=ConnectionState({}),
            )
        )
        return stream

    async def take(self, event: Event) -> None:
        """Note the event."""
        self.events.append(event)


async def test_the_scope_keeps_the_bytes(autojump_clock: MockClock) -> None:
    """Raw path, query and target stand beside ASGI's decoded path; the stream is in the extensions."""
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    async with trio.open_nursery() as nursery:
        stream = Protocol(nursery, app).begin()
    (scope,) = scopes
    assert (scope["raw_path"], scope["query_string"], scope["path"]) == (b"/a%2Fb", b"c=%20", "/a/b")
    assert scope["extensions"][EXTENSION] == {"stream": stream, "target": b"/a%2Fb?c=%20"}


async def test_a_body_is_credited_when_the_next_piece_is_asked_for(autojump_clock: MockClock) -> None:
    """Pieces are at most 64 KiB; the last says so; behind it only the departure comes."""
    messages: list[dict[str, Any]] = []
    credit: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not messages or messages[-1]["type"] != "http.disconnect":
            messages.append(await receive())

    async with trio.open_nursery() as nursery:
        stream = Protocol(nursery, app).begin()
        stream.on_taken = credit.append
        stream.feed(b"x" * 100_000)
        await wait_all_tasks_blocked()
        assert (len(messages), credit) == (2, [65_536, 34_464])
        stream.end([])
        await wait_all_tasks_blocked()
        stream.leave("gone")
    sizes = [(len(message.get("body", b"")), message.get("more_body")) for message in messages]
    assert sizes == [(65_536, True), (34_464, True), (0, False), (0, None)]


async def test_departure_is_told_at_once(autojump_clock: MockClock) -> None:
    """The callback runs inside `leave`, once, and late listeners hear of it too."""
    reasons: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        stream = Protocol(nursery, app).begin()
        stream.attach(reasons.append, lambda: None)
        stream.feed(b"unread")
        stream.leave("gone")
        stream.leave("again")
        assert reasons == ["gone"]
        stream.attach(reasons.append, lambda: None)
        assert len(reasons) == 2


async def test_the_end_of_the_reply_is_no_departure(autojump_clock: MockClock) -> None:
    """The application finishes in peace: no disconnect before it returned, then the stream closes."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][EXTENSION]["stream"].attach(seen.append, lambda: None)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Y", b"1")]})
        await send({"type": "http.response.body", "body": b"whole"})
        with trio.move_on_after(5):
            seen.append((await receive())["type"])

    async with trio.open_nursery() as nursery:
        protocol = Protocol(nursery, app)
        protocol.begin()
    assert seen == []
    assert [type(event) for event in protocol.events] == [Response, Body, EndBody, StreamClosed]
    assert isinstance(protocol.events[0], Response)
    assert protocol.events[0].headers == [(b"x-y", b"1")]


@pytest.mark.parametrize("sent", [0, 1, 2])
async def test_an_unfinished_reply_is_reset(sent: int, autojump_clock: MockClock) -> None:
    """Wherever an application stops before the end, the client is told."""
    resets: list[int] = []
    messages = [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"half", "more_body": True},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:sent]:
            await send(message)

    async with trio.open_nursery() as nursery:
        stream = Protocol(nursery, app).begin()
        stream.on_reset = lambda: resets.append(1)
    assert resets == [1]


async def test_sending_to_nobody_raises(autojump_clock: MockClock) -> None:
    """Behind a departure `send` raises OSError, as ASGI has it, and nothing reaches the protocol."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        with pytest.raises(OSError):
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async with trio.open_nursery() as nursery:
        protocol = Protocol(nursery, app)
        protocol.begin().leave("gone")
    assert [type(event) for event in protocol.events] == [StreamClosed]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_replies_without_a_body_have_none(method: str, status: int, autojump_clock: MockClock) -> None:
    """An application's body is left out where HTTP has none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"too much"})

    async with trio.open_nursery() as nursery:
        protocol = Protocol(nursery, app, method)
        protocol.begin()
    assert [type(event) for event in protocol.events] == [Response, EndBody, StreamClosed]


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"first"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [{"type": "http.response.start", "status": 200}, {"type": INTERIM, "status": 103, "headers": []}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}] * 2,
        [{"type": "nonsense"}],
    ],
)
async def test_messages_out_of_order_raise(messages: list[dict[str, Any]], autojump_clock: MockClock) -> None:
    """An application that breaks ASGI's order hears of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RuntimeError):  # noqa: PT012  the first that fails is enough
            for message in messages:
                await send(message)

    async with trio.open_nursery() as nursery:
        Protocol(nursery, app).begin()


async def test_a_full_inbox_holds_the_protocol(autojump_clock: MockClock) -> None:
    """Where no window bounds the client, the protocol waits for the application instead."""
    go_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        while (await receive())["more_body"]:
            pass

    async with trio.open_nursery() as nursery:
        stream = Protocol(nursery, app).begin()
        done = False

        async def feed() -> None:
            nonlocal done
            for _ in range(10):
                await stream.handle(Body(stream_id=1, data=b"x" * 65_536))
            await stream.handle(EndBody(stream_id=1))
            done = True

        nursery.start_soon(feed)
        await wait_all_tasks_blocked()
        assert not done
        go_on.set()
    assert done
