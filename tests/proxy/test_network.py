"""The seam to the network: real sockets and memory keep the same promises."""

from __future__ import annotations

import errno
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_gateway.proxy.network import Listener, MemoryNetwork, Network, RealNetwork, Resolver


@pytest.fixture(params=[RealNetwork, MemoryNetwork], ids=["real", "memory"])
def network(request: pytest.FixtureRequest) -> Network:
    """Each kind in turn."""
    made: Network = request.param()
    return made


async def listening(network: Network) -> Listener:
    (listener,) = await network.listen("127.0.0.1", 0)
    return listener


async def test_connect_and_accept_give_two_ends(network: Network) -> None:
    """Each knows both addresses, and bytes pass."""
    listener = await listening(network)
    assert listener.address[1] > 0
    here = await network.connect(*listener.address)
    there = await listener.accept()
    assert here.peer == there.local == listener.address
    assert there.peer == here.local
    assert there.peer[0] == "127.0.0.1"
    await here.send(b"ping")
    assert await there.receive() == b"ping"
    for end in (here, there, listener):
        end.close()


async def test_nobody_listening_is_refused(network: Network) -> None:
    """At once, and when the listener has closed."""
    listener = await listening(network)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(*listener.address)


async def test_an_address_can_be_bound_once(network: Network) -> None:
    """And again when it is free."""
    listener = await listening(network)
    with pytest.raises(OSError, match="in use") as error:
        await network.listen(*listener.address)
    assert error.value.errno == errno.EADDRINUSE
    listener.close()
    (again,) = await network.listen(*listener.address)
    again.close()


@pytest.mark.parametrize("moment", ["before", "while waiting"])
async def test_accept_ends_with_its_listener(moment: str, network: Network) -> None:
    """ClosedResourceError, whether it waited or was about to."""
    listener = await listening(network)
    ended: list[bool] = []

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        ended.append(True)

    async with trio.open_nursery() as nursery:
        if moment == "before":
            listener.close()
        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        listener.close()
    assert ended == [True]


async def test_the_backlog_can_be_asked_without_waiting(network: Network) -> None:
    """What stands in it comes out in order; then None."""
    listener = await listening(network)
    assert listener.accept_nowait() is None
    ends = [await network.connect(*listener.address) for _ in range(2)]
    await trio.testing.wait_all_tasks_blocked(0.01)
    taken = [listener.accept_nowait(), listener.accept_nowait()]
    assert [link.peer for link in taken if link] == [end.local for end in ends]
    assert listener.accept_nowait() is None
    for link in (*ends, *taken):
        assert link is not None
        link.close()
    listener.close()


async def test_a_cancelled_connect_leaves_nothing_open(autojump_clock: object) -> None:
    """Neither an end nor an entry in the backlog."""
    network = MemoryNetwork()
    listener = await listening(network)
    network.hang.add(listener.address)
    with trio.move_on_after(5) as scope:
        await network.connect(*listener.address)
    assert scope.cancelled_caught
    assert listener.accept_nowait() is None
    assert network.connects == 1
    listener.close()


async def test_ipv6_listens_beside_ipv4() -> None:
    """Each family has its own socket."""
    network = RealNetwork()
    try:
        (six,) = await network.listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    (four,) = await network.listen("127.0.0.1", six.address[1])
    link = await network.connect(*six.address)
    assert link.peer[0] == "::1"
    for end in (link, six, four):
        end.close()


async def test_a_dual_stack_listener_names_ipv4_peers_plainly() -> None:
    """Rules and logs know 127.0.0.1, not ::ffff:127.0.0.1."""
    network = RealNetwork()
    try:
        (listener,) = await network.listen("::", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    here = await network.connect("127.0.0.1", listener.address[1])
    there = await listener.accept()
    assert there.peer[0] == "127.0.0.1"
    for end in (here, there, listener):
        end.close()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Every new descriptor is EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accept_says_when_descriptors_ran_out() -> None:
    """EMFILE is the caller's to judge, and the connection stays in the backlog."""
    network = RealNetwork()
    listener = await listening(network)
    here = await network.connect(*listener.address)
    with no_more_descriptors(), pytest.raises(OSError) as error:
        await listener.accept()
    assert error.value.errno == errno.EMFILE
    (await listener.accept()).close()
    here.close()
    listener.close()


# ---- names ------------------------------------------------------------------------------------------


class Names:
    """Stands in for the C library's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int = 0) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()
        self.port = port
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Answers 127.0.0.1; `hanging.example` only when released."""
        if flags & socket.AI_NUMERICHOST:  # Trio asks first whether it is an address already
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name == "hanging.example":
            self.release.wait(10)
        if name == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or self.port))]


async def test_names_are_resolved_once_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept that long, on Trio's clock."""
    network = RealNetwork()
    listener = await listening(network)
    names = Names(monkeypatch)
    for _ in range(3):
        link = await network.connect("backend.example", listener.address[1])
        link.close()
        (await listener.accept()).close()
    assert names.asked == ["backend.example"]
    listener.close()


async def test_an_unknown_name_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like every failure to connect, and it is asked for anew."""
    names = Names(monkeypatch)
    for _ in range(2):
        with pytest.raises(OSError):
            await RealNetwork().connect("nowhere.example", 80)
    assert len(names.asked) == 2


async def test_a_name_that_hangs_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait for it, other names are resolved; cancelling does not wait for the thread."""
    names = Names(monkeypatch)
    resolver = Resolver()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(resolver.getaddrinfo, b"hanging.example", 80)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await resolver.getaddrinfo(b"backend.example", 80)
            assert names.asked.count("hanging.example") == 2
            nursery.cancel_scope.cancel()
    names.release.set()
