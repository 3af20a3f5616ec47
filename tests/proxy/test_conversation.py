"""A conversation between two links: where a close frame of ours may stand, and how long anything waits."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from attrs import frozen

from tests.support.frames import BINARY, frame
from tests.support.websocket import Peer
from trio_gateway.errors import ClientGone, GatewayError, ShuttingDown, UpstreamTruncated
from trio_gateway.proxy.conversation import CLOSE_WAIT, LINGER, Conversation
from trio_gateway.proxy.link import Link

DOWN = frame(BINARY, b"0123456789", masked=False)
UP = frame(BINARY, b"0123456789", masked=True)


def pair() -> tuple[Link, Link]:
    """Two ends of one connection."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setblocking(False)
    one, other = (Link(end, ("", 0), ("", 0)) for end in ends)
    return one, other


@frozen
class Scene:
    """A running conversation and the two whose it is."""

    talk: Conversation
    client: Peer
    upstream: Peer
    over: trio.Event

    @property
    def error(self) -> GatewayError | None:
        """Why it ended; it must have."""
        assert self.over.is_set()
        return self.talk.error


@asynccontextmanager
async def scene(idle_timeout: float = 300.0, latest: float = math.inf) -> AsyncIterator[Scene]:
    """A conversation between two peers; both are gone behind it, and so must it be."""
    (client, inner), (outer, upstream) = pair(), pair()
    talk = Conversation(
        inner, outer, extensions=frozenset(), max_message=1000, idle_timeout=idle_timeout, latest=latest
    )
    over = trio.Event()

    async def run() -> None:
        await talk.run(b"", b"")
        over.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield Scene(talk, Peer(client, is_client=True), Peer(upstream, is_client=False), over)
            client.close()
            upstream.close()
            with trio.fail_after(CLOSE_WAIT + LINGER + 0.1):
                await over.wait()
    finally:
        for link in (client, inner, outer, upstream):
            link.close()


async def test_a_close_frame_waits_for_the_end_of_a_frame(autojump_clock: object) -> None:
    """What was begun is finished in each direction, what stands behind it is not begun."""
    async with scene() as here:
        await here.upstream.link.send(DOWN[:5])
        await here.client.link.send(UP[:3])
        await trio.testing.wait_all_tasks_blocked()
        here.talk.end(ShuttingDown(), 1001, "bye")
        await trio.sleep(1)
        await here.upstream.link.send(DOWN[5:] + DOWN)
        await here.client.link.send(UP[3:] + UP)
        assert await here.client.goodbye() == (1001, "bye")
        assert await here.upstream.goodbye() == (1001, "bye")
        assert here.client.reader.messages == here.upstream.reader.messages == [b"0123456789"]


async def test_the_side_between_frames_is_told_at_once(autojump_clock: object) -> None:
    """Half a frame in one direction holds nothing up in the other."""
    async with scene() as here:
        await here.upstream.link.send(DOWN[:5])
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        here.talk.end(ShuttingDown(), 1001)
        assert await here.upstream.goodbye() == (1001, "")
        assert trio.current_time() - began < 0.01


async def test_a_frame_that_never_ends_is_cut(autojump_clock: object) -> None:
    """Behind CLOSE_WAIT; its reader gets no close frame, for none can stand there."""
    async with scene() as here:
        await here.upstream.link.send(DOWN[:5])
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        here.talk.end(ShuttingDown(), 1001)
        assert await here.client.goodbye() is None
        assert trio.current_time() - began == pytest.approx(CLOSE_WAIT)


async def test_the_first_reason_stands(autojump_clock: object) -> None:
    """Whatever else would end it comes too late."""
    async with scene() as here:
        await trio.testing.wait_all_tasks_blocked()
        here.talk.end(ShuttingDown(), 1001)
        here.talk.end(ClientGone(), 1002)
        assert await here.client.goodbye() == (1001, "")
        assert await here.upstream.goodbye() == (1001, "")
    assert isinstance(here.error, ShuttingDown)


async def test_nothing_ends_what_has_said_goodbye(autojump_clock: object) -> None:
    """Behind a close frame of either side the rest is theirs, within CLOSE_WAIT."""
    async with scene() as here:
        await here.client.close(1000)
        assert await here.upstream.goodbye() == (1000, "")
        here.talk.end(ShuttingDown(), 1001)
        await here.upstream.close(1000)
        assert await here.client.goodbye() == (1000, "")
    assert here.error is None


async def test_a_conversation_may_end_before_it_began(autojump_clock: object) -> None:
    """Its tasks find that nothing is to be relayed."""
    async with scene() as here:
        here.talk.drain()
        assert await here.client.goodbye() == (1001, "shutting down")
        assert await here.upstream.goodbye() == (1001, "shutting down")
    assert isinstance(here.error, ShuttingDown)


async def test_last_words_are_read_from_an_upstream_that_takes_no_more(autojump_clock: object) -> None:
    """A write to it fails, yet its close frame stands unread and tells the client why."""
    async with scene() as here:
        await trio.testing.wait_all_tasks_blocked()
        here.client.link.send_nowait(UP)
        here.upstream.link.send_nowait(b"\x88\x02\x03\xf0")
        here.upstream.link.close()
        assert await here.client.goodbye() == (1008, "")
    assert here.error is None


async def test_a_peer_that_only_half_closes_is_gone(autojump_clock: object) -> None:
    """A FIN without a close frame is a departure, as for any request."""
    async with scene() as here:
        here.client.link.shutdown_write()
        assert await here.upstream.goodbye() == (1001, "")
        await here.upstream.end()
        assert await here.client.goodbye() == (1011, "")
    assert isinstance(here.error, ClientGone)


async def test_a_reset_is_a_departure_with_its_cause(autojump_clock: object) -> None:
    """The log says what the kernel said."""
    async with scene() as here:
        await here.client.link.send(UP)
        await trio.testing.wait_all_tasks_blocked()
        here.upstream.link.close()  # over unread bytes
        assert await here.client.goodbye() == (1011, "")
    assert isinstance(here.error, UpstreamTruncated)
    assert "reset" in str(here.error.cause)


async def test_both_peers_may_stay_for_a_moment(autojump_clock: object) -> None:
    """They end their connections themselves, or we do behind LINGER."""
    async with scene() as here:
        await here.client.close(1000)
        await here.upstream.goodbye()
        await here.upstream.close(1000)
        assert await here.client.goodbye() == (1000, "")
        began = trio.current_time()
        await here.over.wait()
        assert trio.current_time() - began == pytest.approx(LINGER)


async def test_a_speaker_without_end_can_not_put_off_the_end(autojump_clock: object) -> None:
    """What it says behind the close frame is read for LINGER and then no more."""

    async def speak() -> None:
        with pytest.raises(OSError):  # noqa: PT012
            while True:
                await here.upstream.link.send(DOWN)
                await trio.sleep(0.01)

    async with scene() as here, trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await trio.sleep(1)
        here.talk.drain()
        with trio.fail_after(CLOSE_WAIT + LINGER + 0.1):
            await here.over.wait()
        assert await here.client.goodbye() == (1001, "shutting down")
        for link in (here.upstream.link, here.client.link):
            link.close()


async def test_it_counts_what_it_relayed(autojump_clock: object) -> None:
    """Each direction by itself, without frames of ours."""
    async with scene() as here:
        await here.client.link.send(UP + UP)
        await here.upstream.link.send(DOWN)
        await here.upstream.hear()
        await trio.testing.wait_all_tasks_blocked()
        assert (here.talk.up.moved, here.talk.down.moved) == (2 * len(UP), len(DOWN))
        here.talk.drain()
        await here.client.goodbye()
        assert (here.talk.up.moved, here.talk.down.moved) == (2 * len(UP), len(DOWN))
