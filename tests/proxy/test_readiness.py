"""Sockets registered once: no edge is lost, none reaches a stranger, and waiting stays cancellable."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gateway.proxy import readiness
from trio_gateway.proxy.link import Link, LinkClosed
from trio_gateway.proxy.readiness import Readiness

Pair = tuple[Link, socket.socket]


def unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        return near, far


def linked(near: socket.socket) -> Link:
    near.setblocking(False)
    return Link(near, ("peer", 1), ("here", 2))


@pytest.fixture(params=[unix_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A link and the plain socket at its other end."""
    near, far = request.param()
    yield linked(near), far
    near.close()
    far.close()


class Told:
    """A reader that notes what it was told."""

    def __init__(self) -> None:
        self.arrivals = 0
        self.departures = 0

    def arrived(self) -> None:
        self.arrivals += 1

    def peer_left(self) -> None:
        self.departures += 1


def current() -> Readiness:
    here = Readiness.current()
    assert here is not None
    return here


async def until(condition: Callable[[], object]) -> None:
    """Loopback TCP needs a moment."""
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


# ---- edges ------------------------------------------------------------------------------------------


async def test_what_was_there_before_is_told_and_what_comes_later_too(pair: Pair) -> None:
    """Once each; silence tells nothing."""
    link, far = pair
    told = Told()
    far.send(b"before")
    current().register(link.fileno(), told)
    await until(lambda: told.arrivals == 1)
    far.send(b"later")
    await until(lambda: told.arrivals == 2)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert (told.arrivals, told.departures) == (2, 0)
    current().forget(link.fileno())


@pytest.mark.parametrize("leave", [socket.socket.close, lambda far: far.shutdown(socket.SHUT_WR)])
async def test_a_peer_that_leaves_is_told_behind_bytes_that_nobody_reads(
    leave: Callable[[socket.socket], None], pair: Pair
) -> None:
    """By a FIN as by a close."""
    link, far = pair
    left: list[bool] = []
    link.watch_departure(lambda: left.append(link.departed))
    far.send(b"pipelined")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert left == []
    leave(far)
    await until(lambda: left)
    assert set(left) == {True}
    assert await link.receive() == b"pipelined"
    assert await link.receive() == b""
    assert await link.receive() == b""


@pytest.mark.parametrize("registered", ["before", "after"])
async def test_an_end_that_comes_with_the_bytes_before_it_is_not_lost(registered: str, pair: Pair) -> None:
    """Both are one edge, and a short read takes only the bytes."""
    link, far = pair
    if registered == "before":
        with trio.move_on_after(0.01):
            await link.readable()
    far.send(b"all")
    far.close()
    with trio.fail_after(5):
        await link.readable()
        assert link.receive_nowait() == b"all"
        await link.readable()
        assert link.receive_nowait() == b""


@pytest.mark.parametrize("made", [unix_pair, tcp_pair])
@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.integers(1, 3000), max_size=12),
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=6),
    turns=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_whatever_the_turns_all_bytes_and_the_end_come(
    made: Callable[[], tuple[socket.socket, socket.socket]],
    pieces: list[int],
    sizes: list[int],
    turns: list[int],
) -> None:
    """Writer and reader take turns in every order; reads are short, exact and too large."""
    near, far = made()
    link = linked(near)

    async def write() -> None:
        for number, size in enumerate(pieces):
            far.sendall(bytes([number]) * size)
            for _ in range(turns[number % len(turns)]):
                await trio.lowlevel.checkpoint()
        far.close()

    async def main() -> bytes:
        got, number = b"", 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            with trio.fail_after(5):
                while data := await link.receive(sizes[number % len(sizes)]):
                    got += data
                    number += 1
        link.close()
        return got

    assert trio.run(main) == b"".join(bytes([number]) * size for number, size in enumerate(pieces))


# ---- who is told ------------------------------------------------------------------------------------


async def test_a_number_that_serves_again_belongs_to_its_new_socket(pair: Pair) -> None:
    """Whoever waited on the old one hears that it was closed; the new one hears what is its own."""
    link, _ = pair
    heard: list[str] = []

    async def wait_on_the_old_one() -> None:
        with pytest.raises(LinkClosed):
            await link.readable()
        heard.append("closed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_on_the_old_one)
        await trio.testing.wait_all_tasks_blocked()
        number = link.fileno()
        link.close()
        near, far = socket.socketpair()
        assert number in (near.fileno(), far.fileno())
        new, other = (near, far) if near.fileno() == number else (far, near)
        other.send(b"new")
        assert await linked(new).receive() == b"new"
    assert heard == ["closed"]
    near.close()
    far.close()


async def test_a_closed_sockets_copy_does_not_speak_for_who_has_its_number(pair: Pair) -> None:
    """A child process may hold such a copy for a moment; the kernel keeps its registration as long."""
    link, far = pair
    link.watch_departure(lambda: None)
    number, copy = link.fileno(), link._sock.dup()
    link.close()
    near, other = socket.socketpair()
    assert number in (near.fileno(), other.fileno())
    new = linked(near if near.fileno() == number else other)
    new.watch_departure(lambda: None)
    far.close()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert not new.departed
    for sock in (near, other, copy):
        sock.close()


async def test_a_socket_that_changed_hands_tells_its_new_owner_what_is_there(pair: Pair) -> None:
    """As when TLS takes a connection over: the old owner had heard of these bytes, and must not tell."""
    link, far = pair
    before, after = Told(), Told()
    current().register(link.fileno(), before)
    far.send(b"hello")
    await until(lambda: before.arrivals)
    current().register(link.fileno(), after)
    await until(lambda: after.arrivals)
    assert before.arrivals == 1
    current().forget(link.fileno())


async def test_a_socket_that_is_forgotten_tells_nobody(pair: Pair) -> None:
    """Nor is it an error to forget what nobody knows."""
    link, far = pair
    told = Told()
    current().register(link.fileno(), told)
    current().forget(link.fileno())
    current().forget(link.fileno())
    far.send(b"x")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert told.arrivals == 0


def test_each_run_of_trio_has_its_own() -> None:
    """One after the other in one process; a link may be closed behind its run."""
    seen = set()
    for _ in range(2):
        near, far = socket.socketpair()

        async def main(link: Link, far: socket.socket) -> Readiness:
            far.send(b"x")
            await link.readable()
            assert Readiness.current() is current()
            link.close()
            return current()

        seen.add(trio.run(main, linked(near), far))
        far.close()
    assert len(seen) == 2


# ---- waiting ----------------------------------------------------------------------------------------


async def test_a_cancelled_wait_leaves_the_next_one_all_there_is(pair: Pair) -> None:
    """Also when bytes come in the very turn that cancels."""
    link, far = pair
    for _ in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.readable)
                await trio.testing.wait_all_tasks_blocked()
                far.send(b"x")
                scope.cancel()
        with trio.fail_after(5):
            assert await link.receive() == b"x"


async def test_only_one_task_waits_for_a_link(pair: Pair) -> None:
    """The second is told so at once, and the first waits on."""
    link, far = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.readable)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await link.readable()
        far.send(b"x")


async def test_virtual_time_waits_for_bytes_that_are_here(autojump_clock: object) -> None:
    """Bytes between two tasks of one run cost no time, though they pass through two epolls."""
    near, far = socket.socketpair()
    link, other = linked(near), linked(far)

    async def echo() -> None:
        for _ in range(100):
            other.send_nowait(await other.receive())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        for _ in range(100):
            link.send_nowait(b"ping")
            assert await link.receive() == b"ping"
    assert trio.current_time() == began
    link.close()
    other.close()


async def test_a_flood_of_edges_lets_others_run(pair: Pair) -> None:
    """A peer that sends without end costs turns, not the loop."""
    link, far = pair
    link.watch_departure(lambda: None)
    turns = 0
    with trio.move_on_after(0.05):
        while True:
            far.send(b"x")
            await trio.lowlevel.checkpoint()
            link.receive_nowait()
            turns += 1
    assert turns > 10


async def test_without_epoll_a_link_waits_all_the_same(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    """Through Trio; what is lost there is the word of a departure."""
    monkeypatch.setattr(readiness, "_HAS_EPOLL", False)
    link, far = pair
    assert Readiness.current() is None
    link.watch_departure(lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.readable)
        await trio.testing.wait_all_tasks_blocked()
        far.send(b"x")
    assert await link.receive() == b"x"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises_closed, link)
        await trio.testing.wait_all_tasks_blocked()
        link.close()


async def raises_closed(link: Link) -> None:
    with pytest.raises(LinkClosed):
        await link.readable()


def test_a_bug_in_a_reader_ends_the_run(pair: Pair) -> None:
    """Logged and forgotten, as an instrument's, it would leave all sockets without a wake."""

    class Broken(Told):
        def arrived(self) -> None:
            raise ValueError("a bug of ours")

    link, far = pair

    async def main() -> None:
        current().register(link.fileno(), Broken())
        far.send(b"x")
        with trio.fail_after(5):
            await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert caught.value.__cause__.subgroup(ValueError) is not None


async def test_who_asks_late_in_a_turn_is_told_what_happened_in_it(pair: Pair) -> None:
    """A busy loop's turn is long: who takes an idle connection at its end must know what came meanwhile."""
    link, far = pair
    link.watch_departure(lambda: None)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert link.seems_quiet(trio.current_time())
    far.send(b"unasked")
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:  # no turn of the loop
        pass
    assert not link.seems_quiet(trio.current_time())


async def test_a_crowd_is_told_in_several_turns(autojump_clock: object) -> None:
    """More than one look takes; the loop doesn't sleep before all know."""
    crowd = [unix_pair() for _ in range(300)]
    told = [Told() for _ in crowd]
    for (near, far), reader in zip(crowd, told, strict=True):
        current().register(near.fileno(), reader)
        far.send(b"x")
    began = trio.current_time()
    await trio.sleep(1)
    assert trio.current_time() == began + 1
    assert {reader.arrivals for reader in told} == {1}
    for near, far in crowd:
        current().forget(near.fileno())
        near.close()
        far.close()
