"""The seam to the network: connect, listen and resolve, on real sockets or in memory.

The memory network hands out AF_UNIX socket pairs, so links, pools and lanes above are the very same
code; on a mock clock a whole gateway runs in virtual time.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import socket
from typing import Any, Protocol

import trio
from attrs import define, field, frozen

from trio_gateway.config.addresses import UNIX_PEER, Address
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.listening import family_of, inherit, link_of, listen_at_path, listen_on_port

_DNS_TTL = 10.0
_DNS_THREADS_PER_NAME = 2


class Listener(Protocol):
    """One bound address that hands out connections."""

    address: Address

    async def accept(self) -> Link:
        """The next connection. Raises OSError (EMFILE among them), ClosedResourceError after `close`."""
        ...

    def accept_nowait(self) -> Link | None:
        """A connection that stands in the backlog, or None. Raises OSError."""
        ...

    def shut(self) -> None:
        """Let nobody into the backlog any more; those in it can still be accepted."""
        ...

    def close(self) -> None:
        """Accept no more; what stands in the backlog is refused."""
        ...


class Network(Protocol):
    """Where connections come from and go to."""

    async def connect(self, host: str, port: int) -> Link:
        """A new connection. Raises OSError. The caller bounds the time."""
        ...

    async def listen(self, host: str, port: int, backlog: int = 4096) -> list[Listener]:
        """Bound listeners, one per address of `host`; port 0 takes a free one. Raises OSError."""
        ...

    async def listen_at(self, path: str, backlog: int = 4096) -> list[Listener]:
        """The listener of a Unix socket at `path`. Raises OSError."""
        ...

    async def inherit(self, descriptor: int) -> list[Listener]:
        """The listener over a socket that the process was started with. Raises OSError."""
        ...


# ---- real sockets ---------------------------------------------------------------------------------


class Resolver(trio.abc.HostnameResolver):
    """Name resolution in threads, at most two per name: a name that hangs blocks nobody else's.

    Answers are kept for ten seconds on Trio's clock.
    """

    def __init__(self) -> None:
        self._limits: dict[bytes | None, trio.CapacityLimiter] = {}
        self._answers: dict[Any, tuple[float, list[Any]]] = {}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """See socket.getaddrinfo. Cancelling abandons the thread."""
        key = (host, port, family, type, proto, flags)
        expires, answer = self._answers.get(key, (0.0, []))
        if trio.current_time() < expires:
            return answer
        limit = self._limits.setdefault(host, trio.CapacityLimiter(_DNS_THREADS_PER_NAME))
        answer = await trio.to_thread.run_sync(
            socket.getaddrinfo, host, port, family, type, proto, flags, abandon_on_cancel=True, limiter=limit
        )
        self._answers[key] = (trio.current_time() + _DNS_TTL, answer)
        return answer

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Never asked for by the gateway."""
        raise NotImplementedError


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class RealNetwork:
    """TCP. Connecting races a name's addresses (RFC 8305, Trio's happy eyeballs)."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver or Resolver()

    async def connect(self, host: str, port: int) -> Link:
        """See Network."""
        if _numeric(host):
            sock = trio.socket.socket(family_of(host), socket.SOCK_STREAM)
            try:
                await sock.connect((host, port))
            except BaseException:
                sock.close()
                raise
        else:
            trio.socket.set_custom_hostname_resolver(self._resolver)
            sock = (await trio.open_tcp_stream(host, port)).socket
        plain = socket.socket(fileno=sock.detach())
        return link_of(plain)

    async def listen(self, host: str, port: int, backlog: int = 4096) -> list[Listener]:
        """See Network."""
        return [listen_on_port(host, port, backlog)]

    async def listen_at(self, path: str, backlog: int = 4096) -> list[Listener]:
        """See Network."""
        return [listen_at_path(path, backlog)]

    async def inherit(self, descriptor: int) -> list[Listener]:
        """See Network."""
        return [inherit(descriptor)]


# ---- in memory ------------------------------------------------------------------------------------


@frozen
class _Pending:
    """What a memory listener's channel carries."""

    link: Link


@define
class MemoryListener:
    """A bound address of the memory network."""

    address: Address
    _network: MemoryNetwork
    _send: trio.MemorySendChannel[_Pending] = field(init=False)
    _receive: trio.MemoryReceiveChannel[_Pending] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[_Pending](1024)

    async def accept(self) -> Link:
        """See Listener."""
        try:
            return (await self._receive.receive()).link
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    def accept_nowait(self) -> Link | None:
        """See Listener."""
        try:
            return self._receive.receive_nowait().link
        except (trio.WouldBlock, trio.EndOfChannel):
            return None

    def offer(self, link: Link) -> None:
        """Put a connection into the backlog."""
        try:
            self._send.send_nowait(_Pending(link))
        except (trio.WouldBlock, trio.ClosedResourceError):
            link.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused") from None

    def shut(self) -> None:
        """See Listener."""
        self._network.listeners.pop(self.address, None)

    def close(self) -> None:
        """See Listener."""
        self.shut()
        self._send.close()


@define
class MemoryNetwork:
    """Connections as socket pairs between tasks of one process.

    `refuse` and `hang` name addresses that refuse or never answer; `connects` counts attempts.
    """

    client_host: str = "127.0.0.1"
    listeners: dict[Address, MemoryListener] = field(factory=dict)
    hang: set[Address] = field(factory=set)
    connects: int = 0
    _ports: itertools.count[int] = field(factory=lambda: itertools.count(40_000))

    async def connect(self, host: str, port: int) -> Link:
        """See Network."""
        await trio.lowlevel.checkpoint()
        self.connects += 1
        if (host, port) in self.hang:
            await trio.sleep_forever()
        listener = self.listeners.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        here.setblocking(False)
        there.setblocking(False)
        address = (self.client_host, next(self._ports))
        link = Link(here, listener.address, address)
        try:
            listener.offer(Link(there, address, listener.address))
        except OSError:
            link.close()
            raise
        return link

    async def listen(self, host: str, port: int, backlog: int = 4096) -> list[Listener]:  # noqa: ARG002
        """See Network."""
        return await self._listen((host, port or next(self._ports)))

    async def listen_at(self, path: str, backlog: int = 4096) -> list[Listener]:  # noqa: ARG002
        """See Network."""
        return await self._listen((f"{UNIX_PEER}{path}", 0))

    async def inherit(self, descriptor: int) -> list[Listener]:
        """See Network. Nobody starts a process in memory."""
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EBADF, f"nothing was passed as {descriptor}")

    async def _listen(self, address: Address) -> list[Listener]:
        await trio.lowlevel.checkpoint()
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, "address in use")
        listener = MemoryListener(address, self)
        self.listeners[address] = listener
        return [listener]
