"""The one writer: turns, batches, ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_gateway.server.h2_connection import ClientConnection
from trio_gateway.server.h2_sender import Sender
from trio_gateway.server.outbox import Outbox

REQUEST = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


@define
class Bench:
    """A sender, its client, and what happened: writes by size, events at the client, ends and losses."""

    client: H2Connection
    connection: ClientConnection
    sender: Sender = field(init=False)
    writes: list[int] = field(factory=list)
    events: list[Event] = field(factory=list)
    ends: list[int] = field(factory=list)
    losses: list[int] = field(factory=list)
    pieces: int = 0

    def outbox(self, stream_id: int, data: bytes = b"", *, whole: bool = True) -> Outbox:
        """An outbox of a stream, with a reply in it."""
        outbox = Outbox(stream_id, 30.0, 0)
        outbox.put_head([(b":status", b"200")], final=True)
        outbox.put(data)
        if whole:
            outbox.finish([])
        self.sender.outboxes[stream_id] = outbox
        self.sender.stir()
        return outbox

    async def write(self, data: bytes) -> None:
        """The client gets it at once."""
        self.writes.append(len(data))
        self.events += self.client.receive_data(data)

    def data_order(self) -> list[int]:
        """The streams of the DATA frames that had bytes."""
        return [
            event.stream_id or 0 for event in self.events if isinstance(event, DataReceived) and event.data
        ]

    def lose(self, stream_id: int) -> None:
        """A stream was closed under its reply."""
        self.losses.append(stream_id)
        self.sender.drop(stream_id)

    def piece(self) -> None:
        """One body frame went."""
        self.pieces += 1


@asynccontextmanager
async def bench(streams: int) -> AsyncIterator[Bench]:
    """A running sender whose client has opened so many streams."""
    client = H2Connection(H2Configuration())
    connection = ClientConnection(32_768, decoded=32_768)
    client.initiate_connection()
    client.increment_flow_control_window(2**20)
    for number in range(streams):
        client.send_headers(2 * number + 1, REQUEST, end_stream=True)
    connection.initiate_connection()
    connection.receive_data(client.data_to_send())
    made = Bench(client, connection)
    made.sender = Sender(connection, made.write, made.piece, made.ends.append, made.lose)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.sender.run)
        await wait_all_tasks_blocked()
        made.writes.clear()
        yield made
        made.sender.close()


async def test_a_small_reply_is_one_write(autojump_clock: MockClock) -> None:
    """Head, body and end leave together."""
    async with bench(1) as it:
        it.outbox(1, b"hello")
        await wait_all_tasks_blocked()
        assert (len(it.writes), it.ends, it.pieces, it.sender.outboxes) == (1, [1], 1, {})


async def test_streams_take_turns(autojump_clock: MockClock) -> None:
    """Each stream gets one frame before any gets its second."""
    async with bench(3) as it:
        for stream_id in (1, 3, 5):
            it.outbox(stream_id, b"x" * 40_000)
        await wait_all_tasks_blocked()
        order = it.data_order()
        assert [sorted(order[at : at + 3]) for at in (0, 3, 6)] == [[1, 3, 5]] * 3
        assert len(it.writes) == 2  # 64 KiB are a batch


async def test_a_stuck_stream_is_passed_over(autojump_clock: MockClock) -> None:
    """A stream without window waits, without spinning, and goes on when it opens."""
    async with bench(2) as it:
        stuck = it.outbox(1, b"x" * 70_000)
        await wait_all_tasks_blocked()
        assert stuck.waiting
        it.outbox(3, b"free")
        await wait_all_tasks_blocked()
        assert it.ends == [3]
        it.client.increment_flow_control_window(70_000, 1)
        it.connection.receive_data(it.client.data_to_send())
        it.sender.stir()
        await wait_all_tasks_blocked()
        assert it.ends == [3, 1]


async def test_a_stream_that_h2_has_closed_is_lost(autojump_clock: MockClock) -> None:
    """What can't be sent any more is told, and nothing else suffers."""
    async with bench(2) as it:
        it.connection.reset_stream(1)
        lost = it.outbox(1, b"late")
        it.outbox(3, b"fine")
        await wait_all_tasks_blocked()
        assert (it.losses, it.ends, lost.closed) == ([1], [3], True)


async def test_a_cut_reply_is_spilled_first(autojump_clock: MockClock) -> None:
    """What the windows allow goes to h2 at once, and no more; a reply that is whole ends."""
    async with bench(2) as it:
        cut = it.outbox(1, b"x" * 70_000, whole=False)
        it.outbox(3, b"whole")
        for stream_id in (1, 3, 5):
            it.sender.spill(stream_id)
        assert (cut.ended, it.ends) == (False, [3])
        it.connection.reset_stream(1)
        it.sender.drop(1)
        await wait_all_tasks_blocked()
        assert it.data_order() == [1, 1, 1, 1, 3]


async def test_words_of_h2_go_before_the_end(autojump_clock: MockClock) -> None:
    """`close` drops the outboxes, sends what h2 has to say, and ends `run`."""
    async with bench(1) as it:
        outbox = it.outbox(1, b"x" * 70_000)
        await wait_all_tasks_blocked()
        it.connection.close_connection()
        it.sender.close()
        await wait_all_tasks_blocked()
        assert outbox.closed
        assert type(it.events[-1]).__name__ == "ConnectionTerminated"


async def test_answers_wait_for_a_client_that_does_not_read(autojump_clock: MockClock) -> None:
    """With too many answers on hand the reader waits for the writer, and no longer than that."""
    release = trio.Event()
    async with bench(0) as it:

        async def slow(data: bytes) -> None:
            await release.wait()

        it.sender.write = slow
        it.sender.collect(b"x")
        await wait_all_tasks_blocked()
        it.sender.collect(b"x" * 100_000)
        done = False

        async def reader() -> None:
            nonlocal done
            await it.sender.answers_taken()
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await wait_all_tasks_blocked()
            assert not done
            release.set()
        assert done
