"""A link as a stream: replay, errors, the end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.support.second_door import link_pair, read_all
from trio_gateway.server.link_stream import LinkStream


async def test_received_bytes_come_first_and_once(autojump_clock: MockClock) -> None:
    """What was read before comes out whole, then what the peer sends, then the end."""
    client, server = link_pair()
    stream = LinkStream(server, b"first")
    await client.send(b"second")
    client.close()
    assert [await stream.receive_some() for _ in range(3)] == [b"first", b"second", b""]
    assert stream.ended
    server.close()


async def test_reading_lets_others_run(autojump_clock: MockClock) -> None:
    """A busy peer is read with a checkpoint for each piece."""
    client, server = link_pair()
    stream = LinkStream(server, b"here")
    with assert_checkpoints():
        await stream.receive_some()
    await client.send(b"x")
    with assert_checkpoints():
        await stream.receive_some()
    client.close()
    server.close()


async def test_errors_are_trios(autojump_clock: MockClock) -> None:
    """A peer that is gone is a broken resource, our own close a closed one; both ways."""
    client, server = link_pair()
    stream = LinkStream(server)
    await stream.send_all(b"unread")
    client.close()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x" * 1_000_000)
    assert stream.ended
    server.close()

    client, server = link_pair()
    stream = LinkStream(server)
    async with trio.open_nursery() as nursery:

        async def reader() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        await stream.aclose()
    client.close()


async def test_a_peer_that_reads_nothing_breaks_the_stream(autojump_clock: MockClock) -> None:
    """Writing has the link's timer; each call is judged by itself."""
    client, server = link_pair()
    server.write_timeout, server.min_rate = 5.0, 1000
    stream = LinkStream(server)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x" * 10_000_000)
    assert trio.current_time() == pytest.approx(5)
    client.close()
    server.close()


async def test_lingering_lets_the_last_bytes_arrive(autojump_clock: MockClock) -> None:
    """Unread bytes of the peer's don't turn the end into a reset that eats our reply."""
    client, server = link_pair()
    await client.send(b"x" * 50_000)
    stream = LinkStream(server)
    await stream.send_all(b"the reply")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.linger)
        assert await read_all(client) == b"the reply"
        client.close()
    assert server.closed


async def test_lingering_has_bounds(autojump_clock: MockClock) -> None:
    """A peer that stays gets two seconds, one that floods 256 KiB."""
    client, server = link_pair()
    await LinkStream(server).linger()
    assert trio.current_time() == pytest.approx(2)
    client.close()

    client, server = link_pair()
    stream = LinkStream(server)
    sent = 0
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.linger)
            with pytest.raises(OSError):  # noqa: PT012  how often it can send is the point
                while True:
                    await client.send(b"x" * 16_384)
                    sent += 16_384
                    await trio.lowlevel.checkpoint()
    assert server.closed
    assert sent < 2 * 256 * 1024
    client.close()
