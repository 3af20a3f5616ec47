"""Real listening sockets: ports, paths and what was inherited."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trio_gateway.proxy.link import Link
from trio_gateway.proxy.listening import SocketListener, inherit, listen_at_path, listen_on_port


@pytest.fixture
def path() -> Iterator[str]:
    """A path for a socket, short enough for one."""
    folder = Path("/tmp") / f"listening-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield str(folder / "s")
    finally:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def visit(path: str) -> socket.socket:
    visitor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        visitor.connect(path)
    except OSError:
        visitor.close()
        raise
    return visitor


async def greeted(listener: SocketListener, visitor: socket.socket) -> Link:
    """The gateway's end, once a byte has passed."""
    link = await listener.accept()
    visitor.sendall(b"x")
    assert await link.receive() == b"x"
    return link


# ---- a port -----------------------------------------------------------------------------------------


async def test_a_shut_port_lets_nobody_in_and_loses_nobody() -> None:
    """Who is connected is accepted; who comes later is told so by the connect, never by a reset behind it."""
    listener = listen_on_port("127.0.0.1", 0, 10)
    with socket.socket() as early, socket.socket() as late:
        early.connect(listener.address)
        listener.shut()
        late.setblocking(False)
        assert late.connect_ex(listener.address) == errno.EINPROGRESS
        link = await greeted(listener, early)
        assert listener.accept_nowait() is None
        with pytest.raises(BlockingIOError):
            late.send(b"x")
        listener.close()
        early.sendall(b"y")
        assert await link.receive() == b"y"
        link.close()


async def test_only_a_port_has_no_delay() -> None:
    """TCP_NODELAY is set on what is accepted."""
    listener = listen_on_port("127.0.0.1", 0, 10)
    with socket.create_connection(listener.address):
        link = await listener.accept()
        with socket.socket(fileno=os.dup(link.fileno())) as seen:
            assert seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.close()
    listener.close()


# ---- a path -----------------------------------------------------------------------------------------


async def test_a_socket_in_the_file_system(path: str) -> None:
    """Its owner and group may connect, it has no address for a client, and it goes with its listener."""
    listener = listen_at_path(path, 10)
    assert listener.address == (f"unix:{path}", 0)
    assert stat.filemode(os.stat(path).st_mode) == "srw-rw----"
    with visit(path) as visitor:
        link = await greeted(listener, visitor)
        assert (link.peer, link.local) == (("unix:", 0), (f"unix:{path}", 0))
        link.close()
    listener.close()
    with pytest.raises(FileNotFoundError):
        visit(path)
    listener.close()


async def test_what_a_dead_process_left_is_replaced(path: str) -> None:
    """A file without a listener is nobody's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(path)
        killed.listen()
    listener = listen_at_path(path, 10)
    with visit(path) as visitor:
        (await greeted(listener, visitor)).close()
    listener.close()


def test_a_living_listener_is_left_alone(path: str) -> None:
    """The second is told what to do, and the first listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as living:
        living.bind(path)
        living.listen(0)
        for _ in range(3):  # the backlog is full by then
            with pytest.raises(OSError, match="stop it, or choose another path") as refused:
                listen_at_path(path, 10)
            assert refused.value.errno == errno.EADDRINUSE
        assert os.path.lexists(path)


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    """Nobody's data is taken for a stale socket."""
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        listen_at_path(path, 10)
    assert Path(path).read_text() == "precious"


async def test_a_path_that_is_another_s_by_now_stays(path: str) -> None:
    """Who was replaced takes nothing away when it ends."""
    first = listen_at_path(path, 10)
    os.unlink(path)
    second = listen_at_path(path, 10)
    first.close()
    with visit(path) as visitor:
        (await greeted(second, visitor)).close()
    second.close()


async def test_a_shut_path_lets_nobody_in_and_loses_nobody(path: str) -> None:
    """The file is gone at once; who is connected is accepted."""
    listener = listen_at_path(path, 10)
    with visit(path) as visitor:
        listener.shut()
        with pytest.raises(FileNotFoundError):
            visit(path)
        (await greeted(listener, visitor)).close()
    listener.close()


# ---- inherited --------------------------------------------------------------------------------------


def passed() -> tuple[socket.socket, int]:
    """A listening socket, and the number of a second descriptor for it."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, os.dup(sock.fileno())


def by_systemd(descriptor: int, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_FDS": str(descriptor - 2), "LISTEN_PID": str(pid or os.getpid())}


@pytest.mark.parametrize("systemd", [False, True])
async def test_a_socket_that_was_passed_is_listened_on(systemd: bool) -> None:
    """By a shell, or by systemd; closing it closes our end alone."""
    theirs, descriptor = passed()
    with theirs:
        listener = inherit(descriptor, by_systemd(descriptor) if systemd else {})
        assert listener.address == theirs.getsockname()
        assert not os.get_inheritable(descriptor)
        with socket.create_connection(theirs.getsockname()) as visitor:
            (await greeted(listener, visitor)).close()
        listener.shut()
        listener.close()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        socket.create_connection(theirs.getsockname()).close()


def test_what_was_not_for_us_is_left_alone() -> None:
    """Another process's by LISTEN_PID, or beyond the last by LISTEN_FDS."""
    theirs, descriptor = passed()
    with theirs:
        for environ, reason in (
            (by_systemd(descriptor, pid=1), "LISTEN_PID names another process"),
            (by_systemd(descriptor - 1), "is the first"),
            ({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, "is the first"),
        ):
            with pytest.raises(OSError, match=reason):
                inherit(descriptor, environ)
        os.close(descriptor)


def test_what_is_no_listening_stream_socket_is_refused(tmp_path: Path) -> None:
    """A file, a datagram socket, a connection, nothing at all; each stays as it is."""
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as idle:
        with (tmp_path / "file").open("w") as file:
            for descriptor in (one.fileno(), datagrams.fileno(), idle.fileno()):
                with pytest.raises(OSError, match="no listening stream socket"):
                    inherit(descriptor, {})
                os.fstat(descriptor)
            with pytest.raises(OSError, match="no socket was passed"):
                inherit(file.fileno(), {})
        with pytest.raises(OSError, match="no socket was passed"):
            inherit(999_999, {})
