"""What one stream has to send: order, windows, waits."""

from __future__ import annotations

import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamEnded, TrailersReceived
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_gateway.proxy.link import LinkStalled
from trio_gateway.server.outbox import HIGH_WATER, Outbox

HEAD = [(b":status", b"200")]


class Pair:
    """Two h2 connections with stream 1 open, and the stream's outbox on the server's side."""

    def __init__(self, window: int = 65_535, min_rate: int = 0) -> None:
        self.client, self.server = (H2Connection(H2Configuration(client_side=side)) for side in (True, False))
        self.client.local_settings.initial_window_size = window
        self.client.local_settings.acknowledge()
        self.client.initiate_connection()
        self.server.initiate_connection()
        request = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
        self.client.send_headers(1, request, end_stream=True)
        self.server.receive_data(self.client.data_to_send())
        self.client.receive_data(self.server.data_to_send())
        self.outbox = Outbox(1, write_timeout=30.0, min_rate=min_rate)

    def emit(self) -> int:
        """One turn; what the client got of it is in `events`."""
        size = self.outbox.emit(self.server)
        self.events: list[Event] = self.client.receive_data(self.server.data_to_send())
        return size

    def open_window(self, size: int) -> None:
        """The client takes more."""
        self.client.increment_flow_control_window(size, 1)
        self.server.receive_data(self.client.data_to_send())


def test_a_reply_without_a_body_is_one_frame() -> None:
    """A head whose end is known carries it."""
    pair = Pair()
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.finish([])
    assert pair.outbox.waiting
    assert pair.emit() == 0
    assert any(isinstance(event, StreamEnded) for event in pair.events)
    assert (pair.outbox.ended, pair.outbox.waiting) == (True, False)


def test_everything_goes_out_in_order() -> None:
    """Interim heads, the head, the body, trailers, the end; interim heads never behind the final one."""
    pair = Pair()
    pair.outbox.put_head([(b":status", b"103")], final=False)
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put_head([(b":status", b"103")], final=False)
    pair.outbox.put(b"body")
    pair.outbox.finish([(b"x-sum", b"1")])
    assert pair.emit() == 4
    names = [type(event).__name__ for event in pair.events]
    assert names == ["InformationalResponseReceived", "ResponseReceived", "DataReceived"]
    assert pair.emit() == 0
    assert [type(event) for event in pair.events] == [TrailersReceived, StreamEnded]


def test_a_turn_is_one_frame_within_the_window() -> None:
    """No turn takes more than a frame, or more than the client's window; -1 says that nothing can go."""
    pair = Pair(window=20_000)
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put(b"x" * 50_000)
    assert [pair.emit() for _ in range(3)] == [16_384, 3_616, -1]
    assert pair.outbox.waiting
    pair.open_window(10)
    assert pair.emit() == 10
    assert [event.data for event in pair.events if isinstance(event, DataReceived)] == [b"x" * 10]


def test_the_end_needs_no_window() -> None:
    """A closed window doesn't hold up what has no bytes."""
    pair = Pair(window=4)
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put(b"1234")
    assert pair.emit() == 4
    pair.outbox.finish([])
    assert pair.emit() == 0
    assert pair.outbox.ended


async def test_room_and_end_are_waited_for(autojump_clock: MockClock) -> None:
    """Little data needs no wait; much waits until it went; the end is waited for to the end."""
    waits: list[str] = []
    pair = Pair()
    pair.outbox.on_wait = lambda: waits.append("wait")
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put(b"x" * HIGH_WATER)
    await pair.outbox.room()
    assert not waits
    pair.outbox.put(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.outbox.room)
        await wait_all_tasks_blocked()
        assert waits == ["wait"]
        pair.emit()
    pair.outbox.finish([])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.outbox.drained)
        while not pair.outbox.ended:
            await wait_all_tasks_blocked()
            pair.open_window(20_000)
            pair.client.increment_flow_control_window(20_000)
            pair.server.receive_data(pair.client.data_to_send())
            pair.emit()
    assert waits[1:]


async def test_a_closed_stream_wakes_its_writers(autojump_clock: MockClock) -> None:
    """Waits end with BrokenPipeError when the client leaves, and so do later ones."""
    pair = Pair()
    pair.outbox.put(b"x" * (HIGH_WATER + 1))

    async def close_soon() -> None:
        await trio.sleep(1)
        pair.outbox.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_soon)
        with pytest.raises(BrokenPipeError):
            await pair.outbox.room()
    with pytest.raises(BrokenPipeError):
        await pair.outbox.drained()
    assert not pair.outbox.waiting


async def test_a_client_that_takes_nothing_stalls(autojump_clock: MockClock) -> None:
    """`write_timeout` without progress raises LinkStalled; progress starts it anew."""
    pair = Pair(window=0)
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put(b"x" * (HIGH_WATER + 100))

    async def drip() -> None:
        for _ in range(3):
            await trio.sleep(20)
            pair.open_window(1)
            pair.emit()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(LinkStalled):
            await pair.outbox.room()
    assert trio.current_time() == pytest.approx(90)


async def test_a_client_that_takes_too_little_stalls(autojump_clock: MockClock) -> None:
    """Progress below `min_rate` raises LinkStalled behind the grace."""
    pair = Pair(window=0, min_rate=100)
    pair.outbox.put_head(HEAD, final=True)
    pair.outbox.put(b"x" * (HIGH_WATER + 1000))

    async def drip() -> None:
        while True:
            await trio.sleep(1)
            pair.open_window(10)
            pair.emit()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(LinkStalled):
            await pair.outbox.room()
        nursery.cancel_scope.cancel()
    assert 5 < trio.current_time() < 8
