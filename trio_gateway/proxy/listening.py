"""Listening sockets: of our own on a port or at a path, or inherited from whoever started us."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import trio

from trio_gateway.config.addresses import UNIX_PEER, Address
from trio_gateway.proxy.link import Link

_SOCKET_MODE = 0o660  # who may connect to a socket in the file system: its owner and its group
_FIRST_PASSED = 3  # sd_listen_fds(3)

_SO_ATTACH_FILTER = 26
_REFUSE_SYN = b"".join(  # socket(7): what a program like this answers 0 to is dropped before TCP sees it
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the octet with TCP's flags
        (0x45, 1, 0, 0x02),  # SYN?
        (0x06, 0, 0, 0xFFFF),  # no: keep
        (0x06, 0, 0, 0),  # yes: drop
    )
)


class SocketListener:
    """A listening socket. Inherited, it is others' too: they go on listening when we close ours."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.address = _address(sock.getsockname(), sock)

    async def accept(self) -> Link:
        """See Listener."""
        while self._sock.fileno() >= 0:
            if (link := self.accept_nowait()) is not None:
                return link
            await trio.lowlevel.wait_readable(self._sock)
        raise trio.ClosedResourceError

    def accept_nowait(self) -> Link | None:
        """See Listener."""
        while True:
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return None
            except ConnectionAbortedError:
                continue
            try:
                return link_of(sock, peer)
            except OSError:  # the client is gone already
                sock.close()

    def shut(self) -> None:
        """See Listener. Who else listens on the socket may want them."""

    def close(self) -> None:
        """See Listener."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


def link_of(sock: socket.socket, peer: Any = None) -> Link:
    """The link over a connected socket. Raises OSError when its peer has left."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = sock.getpeername() if peer is None else peer
    return Link(sock, _address(peer, sock), _address(sock.getsockname(), sock))


def _address(name: Any, sock: socket.socket) -> Address:
    return (f"{UNIX_PEER}{name}", 0) if sock.family == socket.AF_UNIX else (_plain(name[0]), name[1])


def _plain(host: str) -> str:
    """An IPv4 client of a dual-stack listener shows as ::ffff:a.b.c.d; rules and logs say a.b.c.d."""
    return host[7:] if host.startswith("::ffff:") else host


# ---- a port -----------------------------------------------------------------------------------------


class TcpListener(SocketListener):
    """A port that we have opened."""

    def shut(self) -> None:
        """See Listener. On Linux SYNs are dropped from now on: whoever is connected has been let in.

        Who sends one is refused when he repeats it, and not reset behind a connect that seemed to succeed.
        """
        if sys.platform == "linux":
            program = ctypes.create_string_buffer(_REFUSE_SYN)
            argument = struct.pack("HL", len(_REFUSE_SYN) // 8, ctypes.addressof(program))
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def family_of(host: str) -> socket.AddressFamily:
    """The family of a numeric host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listen_on_port(host: str, port: int, backlog: int) -> TcpListener:
    """Listen on a port, of both families for `::`. Raises OSError."""
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind((host, port))
        sock.listen(backlog)
        return TcpListener(sock)
    except BaseException:
        sock.close()
        raise


# ---- a path -----------------------------------------------------------------------------------------


class UnixListener(SocketListener):
    """A socket in the file system, which goes with the listener."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        super().__init__(sock)
        self._path = path
        self._identity = _identity(path)

    def shut(self) -> None:
        """See Listener. The file goes, unless it is another's by now."""
        with suppress(OSError):
            if _identity(self._path) == self._identity:
                os.unlink(self._path)

    def close(self) -> None:
        """See Listener."""
        if self._sock.fileno() >= 0:
            self.shut()
        super().close()


def listen_at_path(path: str, backlog: int) -> UnixListener:
    """Listen at a path, for the owner and the group. What a dead process left there is replaced.

    Raises OSError, with a cure when somebody listens there or the file is no socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), _SOCKET_MODE)  # what the file is made with, less the umask
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        os.chmod(path, _SOCKET_MODE)
        sock.listen(backlog)
        return UnixListener(sock, path)
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "a file that is no socket is there: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        if visitor.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "another process listens there: stop it, or choose another path")
    os.unlink(path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


# ---- inherited --------------------------------------------------------------------------------------


def inherit(descriptor: int, environ: Mapping[str, str] = os.environ) -> SocketListener:
    """Take over a listening socket that we were started with, by systemd's rules where it has set them.

    Raises OSError when the descriptor was not for us, or is no listening stream socket (sd_listen_fds(3)).
    """
    _check_passed(descriptor, environ)
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        raise OSError(errno.EBADF, "no socket was passed there") from None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise OSError(errno.EINVAL, "what was passed there is no listening stream socket")
    sock.set_inheritable(False)
    return SocketListener(sock)


def _check_passed(descriptor: int, environ: Mapping[str, str]) -> None:
    passed = environ.get("LISTEN_FDS", "")
    if not passed:
        return
    if environ.get("LISTEN_PID") != str(os.getpid()):
        raise OSError(errno.EBADF, "LISTEN_PID names another process: begin ours with exec")
    last = _FIRST_PASSED + int(passed) - 1 if passed.isdecimal() else 0
    if not _FIRST_PASSED <= descriptor <= last:
        raise OSError(errno.EBADF, f"LISTEN_FDS is {passed}: fd://{_FIRST_PASSED} is the first")
