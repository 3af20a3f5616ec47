"""One end of a connection: waiting only where it must, and every end an OSError."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.lowlevel
import trio.testing

from trio_gateway.proxy.link import Link, LinkClosed, LinkStalled

Pair = tuple[Link, socket.socket]


def unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        return near, far


@pytest.fixture(params=[unix_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A link and the plain socket at its other end."""
    near, far = request.param()
    near.setblocking(False)
    far.setblocking(False)
    yield Link(near, ("peer", 1), ("here", 2)), far
    near.close()
    far.close()


async def until(condition: Callable[[], object]) -> None:
    """Loopback TCP needs a moment."""
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


# ---- reading ----------------------------------------------------------------------------------------


async def test_receive_nowait_tells_nothing_from_the_end(pair: Pair) -> None:
    """None while nothing came, b"" when nothing will."""
    link, far = pair
    assert link.receive_nowait() is None
    far.send(b"abc")
    await link.readable()
    assert (link.receive_nowait(2), link.receive_nowait()) == (b"ab", b"c")
    far.close()
    await link.readable()
    assert link.receive_nowait() == b""


async def test_receive_waits_for_bytes(pair: Pair) -> None:
    """And a cancelled wait loses none."""
    link, far = pair
    with trio.move_on_after(0.01):
        await link.receive()
    far.send(b"abc")
    assert await link.receive() == b"abc"


async def test_a_reset_is_an_os_error(pair: Pair) -> None:
    """So is everything that ends a connection."""
    link, far = pair
    link.send_nowait(b"unread")
    await until(lambda: peeked(far))
    far.close()  # over unread bytes
    with pytest.raises(ConnectionResetError):
        await link.receive()


def peeked(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("event", ["nothing", "bytes", "eof", "reset", "our close"])
async def test_only_an_untouched_connection_is_quiet(event: str, registered: bool, pair: Pair) -> None:
    """What an idle connection must be to serve again; asking consumes nothing."""
    link, far = pair
    if registered:
        link.watch_departure(lambda: None)
    assert link.is_quiet()
    assert link.seems_quiet(trio.current_time())
    if event == "bytes":
        far.send(b"x")
    elif event == "eof":
        far.shutdown(socket.SHUT_WR)
    elif event == "reset":
        link.send_nowait(b"unread")
        await until(lambda: peeked(far))
        far.close()
    elif event == "our close":
        link.close()
    if event == "nothing":
        assert link.is_quiet()
        assert link.seems_quiet(trio.current_time())
    else:
        await until(lambda: not link.is_quiet())
        await until(lambda: not link.seems_quiet(trio.current_time()))
        assert not link.is_quiet()
    if event == "bytes":
        assert link.receive_nowait() == b"x"


def test_a_closed_link_is_not_quiet_though_nobody_asked_before() -> None:
    """Its descriptor may be somebody else's by now."""
    near, far = socket.socketpair()

    async def main() -> None:
        link = Link(near, ("peer", 1), ("here", 2))
        link.close()
        assert not link.is_quiet()
        assert link.fileno() == -1

    trio.run(main)
    far.close()


# ---- writing ----------------------------------------------------------------------------------------


async def test_what_the_kernel_did_not_take_is_the_rest(pair: Pair) -> None:
    """Nothing, most times; and it goes where the first part went."""
    link, far = pair
    assert link.send_nowait(b"abc") == b""
    await until(lambda: peeked(far))
    assert far.recv(3) == b"abc"
    data = bytes(range(256)) * 200_000
    rest = link.send_nowait(data)
    assert data.endswith(rest)
    assert 0 < len(rest) < len(data)
    got = bytearray()

    async def read() -> None:
        while len(got) < len(data):
            await trio.lowlevel.wait_readable(far)
            got.extend(far.recv(1 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await link.send_rest(rest)
    assert bytes(got) == data


async def test_send_hands_over_everything(pair: Pair) -> None:
    """More than the kernel takes at once, in order."""
    link, far = pair
    data = bytes(range(256)) * 20_000
    got = bytearray()

    async def read() -> None:
        while len(got) < len(data):
            await trio.lowlevel.wait_readable(far)
            got.extend(far.recv(1 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await link.send(data)
    assert bytes(got) == data


class Sipping:
    """A link with a small buffer whose peer takes something every four seconds, in virtual time."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.link = Link(near, ("peer", 1), ("here", 2), write_timeout=5.0)

    async def sip(self, times: int) -> None:
        for _ in range(times):
            await trio.sleep(4)
            self.far.recv(1 << 20)

    def play(self, main: Callable[[], Awaitable[None]], times: int = 1000) -> float:
        """Run `main` beside the sipping peer; how long it took."""

        async def run() -> float:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sip, times)
                await main()
                nursery.cancel_scope.cancel()
            self.link.close()
            self.far.close()
            return trio.current_time()

        return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_write_without_progress_stalls() -> None:
    """`write_timeout` bounds each wait, not the whole."""
    sipping = Sipping()

    async def main() -> None:
        with pytest.raises(LinkStalled):
            await sipping.link.send(bytes(1_000_000))

    assert sipping.play(main, times=3) == pytest.approx(3 * 4 + 5, abs=0.1)


def test_min_rate_judges_what_the_waits_of_a_message_add_up_to() -> None:
    """Each wait ends in time, but all of them move too little; a new message starts anew."""
    sipping = Sipping()
    link = sipping.link
    link.min_rate = 10_000

    async def main() -> None:
        for _ in range(2):
            link.begin_message(None)
            with pytest.raises(LinkStalled):
                await link.send(bytes(1_000_000))

    assert 2 * 5 < sipping.play(main) < 2 * 13


async def test_on_wait_hears_of_each_wait(pair: Pair) -> None:
    """And of none when the kernel takes all at once."""
    link, _ = pair
    waits: list[int] = []
    link.begin_message(lambda: waits.append(1))
    await link.send(b"small")
    assert waits == []
    with trio.move_on_after(0.05):
        await link.send(bytes(50_000_000))
    assert waits


# ---- ending -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["receive", "send"])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closing_wakes_who_waits_on_this_end(verb: str, end: str, pair: Pair) -> None:
    """With LinkClosed: nobody hangs on a closed socket."""
    link, _ = pair
    outcome: list[type] = []

    async def wait() -> None:
        try:
            await (link.receive() if verb == "receive" else link.send(bytes(50_000_000)))
        except OSError as error:
            outcome.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        getattr(link, end)()
        getattr(link, end)()
    assert outcome == [LinkClosed]
    assert link.closed
    link.shutdown_write()  # too late, and harmless


async def test_waiting_on_a_closed_end_is_link_closed(pair: Pair) -> None:
    """However late somebody asks."""
    link, _ = pair
    link.close()
    with pytest.raises(LinkClosed):
        await link.readable()
    with pytest.raises(OSError) as error:
        await link.receive()
    assert error.value.errno in (errno.EBADF, None)


async def test_shutdown_write_is_an_end_for_the_peer_alone(pair: Pair) -> None:
    """We can read on."""
    link, far = pair
    link.shutdown_write()
    await until(lambda: peeked(far) == b"")
    far.send(b"still here")
    assert await link.receive() == b"still here"


async def test_abort_shows_the_peer_a_reset() -> None:
    """A cut must not look like an end."""
    near, far = tcp_pair()
    near.setblocking(False)
    link = Link(near, ("peer", 1), ("here", 2))
    link.abort()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    far.close()
