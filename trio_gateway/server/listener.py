"""The accept loop. Each connection is a task of its own under a guard: what a peer sends may end that
peer's connection and nothing else. One sweep a second closes the connections whose time is up.
"""

from __future__ import annotations

import contextlib
import errno
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import structlog
import trio
from attrs import define, field, frozen

from trio_gateway.config.addresses import UNIX_PEER
from trio_gateway.config.binds import InheritedBind, TcpBind, UnixBind, parse_bind
from trio_gateway.config.model import BindConfig
from trio_gateway.domain.access import within
from trio_gateway.errors import BadRequest, ClientTooMany, GatewayError, TooManyConnections
from trio_gateway.observe.metrics import Metrics, Refusal
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import Listener, Network
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.termination import Termination
from trio_gateway.server.descriptors import connection_cap, raise_descriptor_limit
from trio_gateway.server.handshake import shake_hands
from trio_gateway.server.lane import Door, Lane
from trio_gateway.server.opening import read_proxy_header
from trio_gateway.server.refusal import linger, refusal
from trio_gateway.wire.proxy_protocol import BadProxyHeader

log = structlog.get_logger("trio_gateway.server")

_SWEEP = 1.0
_ACCEPT_PAUSE = 0.1
_BURST = 63  # connections accepted in one turn of the loop, beside the one that was waited for
_SOON = ((b"Retry-After", b"1"),)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BROKEN = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)  # the listener's fault, not a peer's
_TURNED_AWAY = 64  # connections at a time whose refusal waits to be read
_LAST_ARRIVALS = 0.2  # seconds for handshakes that had begun when the listeners were shut
_GOODBYE = 0.25  # seconds for a client that has just come to send a request, for others to see the end


@frozen(eq=False)
class Bound:
    """A listener, and what its connections begin with."""

    listener: Listener
    config: BindConfig


async def open_listeners(network: Network, config: BindConfig) -> list[Bound]:
    """Begin to listen. Raises OSError; its `filename` is the address that can't be had."""
    try:
        match parse_bind(config.address):
            case TcpBind(host, port):
                opened = await network.listen(host, port)
            case UnixBind(path):
                opened = await network.listen_at(path)
            case InheritedBind(descriptor):
                opened = await network.inherit(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), config.address) from error
    return [Bound(listener, config) for listener in opened]


@define(eq=False)
class Server:
    """Serves connections from any number of listeners until it is drained or cancelled."""

    runtime: Runtime
    door: Door
    descriptors: int = field(factory=raise_descriptor_limit)
    proxies: bool = True  # False: a listener for the management API alone
    draining: bool = False  # replies say `Connection: close`
    closing: bool = False  # nobody is let in, and connections close when they carry nothing
    lanes: set[Lane] = field(factory=set)
    _bound: Sequence[Bound] = ()
    _silent_until: float = -math.inf
    _clients: Counter[str] = field(factory=Counter)  # connections by address
    _turned_away: int = 0
    _handshakes: set[trio.CancelScope] = field(factory=set)
    _connections: trio.Nursery = field(init=False)

    @property
    def metrics(self) -> Metrics:
        """Where connections are counted."""
        return self.runtime.metrics

    async def serve(self, bound: Sequence[Bound]) -> None:
        """Accept until `close_listeners`, then wait for the connections; returns when none is left."""
        self._bound = bound
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            async with trio.open_nursery() as connections:
                self._connections = connections
                for each in bound:
                    connections.start_soon(self._accept, each)
            nursery.cancel_scope.cancel()

    async def _accept(self, bound: Bound) -> None:
        while True:
            try:
                self._admit(await bound.listener.accept(), bound.config)
                self._admit_backlog(bound)
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno in _BROKEN:
                    raise
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self.metrics.accept_pauses += 1
                    log.warning("out of descriptors; accepting pauses", error=str(error))
                    await trio.sleep(_ACCEPT_PAUSE)
                else:  # accept(2) reports the network errors of a connection that is gone by now
                    await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint()  # a flood of connections must not starve the others

    def _admit_backlog(self, bound: Bound) -> None:
        """Some of those that wait behind the first: a busy loop's turns are too long for one each."""
        for _ in range(_BURST):
            if (link := bound.listener.accept_nowait()) is None:
                return
            self._admit(link, bound.config)

    def _admit(self, link: Link, bind: BindConfig) -> None:
        if len(self.lanes) >= self._cap():
            error = TooManyConnections(headers=_SOON)
            self._connections.start_soon(self._turn_away, link, bind, "connections", error)
            return
        lane = Lane(link, self.runtime, self.door, self.is_draining, proxies=self.proxies)
        self.lanes.add(lane)
        self.metrics.connections_accepted += 1
        self.metrics.connections_active += 1
        self._connections.start_soon(self._guard, lane, bind)

    async def _guard(self, lane: Lane, bind: BindConfig) -> None:
        try:
            await self._announce(lane, bind)
            with self._counted(lane.link.peer[0]):
                if termination := self._termination(bind):
                    await self._secure(lane, termination)
                await lane.run()
        except OSError:
            pass  # the peer ended it, or our sweep did
        except ClientTooMany as error:
            await self._turn_away(lane.link, bind, "connections_per_client", error)
        except BadProxyHeader as error:
            self.metrics.connections_refused["proxy_header"] += 1
            self._complain("a connection's PROXY header was refused", lane.link.peer[0], error)
        except Exception as bug:
            self.metrics.handler_errors += 1
            log.exception("connection failed", peer=lane.link.peer[0], exc_info=bug)
        finally:
            lane.link.close()
            self.lanes.discard(lane)
            self.metrics.connections_active -= 1

    async def _announce(self, lane: Lane, bind: BindConfig) -> None:
        """Learn from a proxy in front whose connection this is; the sweep ends who takes too long."""
        if bind.proxy_protocol:
            server = self.runtime.plan.config.server
            lane.due = trio.current_time() + server.timeouts.head
            await read_proxy_header(lane.link, server.trusted_proxies)
            lane.due = math.inf

    def _termination(self, bind: BindConfig) -> Termination | None:
        """What TLS clients of a listener meet; None where they speak plainly."""
        return None if bind.tls is False else self.runtime.termination

    async def _secure(self, lane: Lane, termination: Termination) -> None:
        """Shake hands. Who speaks plain HTTP instead is told so in plain HTTP."""
        timeout = self.runtime.plan.config.server.timeouts.handshake
        with trio.CancelScope() as patience:
            self._handshakes.add(patience)
            try:
                lane.link = await shake_hands(lane.link, termination, timeout, self.metrics.tls)
            except BadRequest as error:
                lane.due = trio.current_time() + timeout
                await lane.refuse(error)
                raise ConnectionAbortedError from None
            finally:
                self._handshakes.discard(patience)
        if patience.cancelled_caught:
            raise ConnectionAbortedError("the gateway stops")

    def _complain(self, event: str, peer: str, error: Exception) -> None:
        """Warn of what anybody can bring about, once a second."""
        now = trio.current_time()
        if now >= self._silent_until:
            self._silent_until = now + 1.0
            log.warning(event, peer=peer, error=str(error))

    # ---- limits

    def warn_of_descriptors(self) -> None:
        """Say so where they allow fewer connections than the config does."""
        configured, cap = self.runtime.plan.config.server.limits.connections, self._cap()
        if self.proxies and cap < configured:
            log.warning(
                "server.limits.connections is cut: each may need two of the open files that are allowed",
                configured=configured,
                connections=cap,
                open_files=self.descriptors,
            )

    def _cap(self) -> int:
        return connection_cap(self.runtime.plan.config.server.limits.connections, self.descriptors)

    @contextlib.contextmanager
    def _counted(self, client: str) -> Iterator[None]:
        """Count a connection for its client. Raises ClientTooMany; trusted proxies carry many clients'."""
        server, clients = self.runtime.plan.config.server, self._clients
        limit = server.limits.connections_per_client
        full = limit is not None and clients[client] >= limit
        if full and client != UNIX_PEER and not within(client, server.trusted_proxies):
            raise ClientTooMany(headers=_SOON)
        clients[client] += 1
        try:
            yield
        finally:
            clients[client] -= 1
            if not clients[client]:
                del clients[client]

    async def _turn_away(self, link: Link, bind: BindConfig, reason: Refusal, error: GatewayError) -> None:
        """Answer a connection that is one too many and close it, with time to read while few need it.

        Over TLS there is no answer: a handshake would cost what the limit is to spare.
        """
        self.metrics.connections_refused[reason] += 1
        self._turned_away += 1
        try:
            answer = refusal(error, self.runtime, link.peer[0])
            if self._termination(bind) is not None:
                return
            link.send_nowait(answer)
            if self._turned_away <= _TURNED_AWAY:
                await linger(link)
            else:
                link.receive_nowait()  # a close over unread bytes is a reset, which may eat the answer
        except OSError:
            pass
        finally:
            self._turned_away -= 1
            link.close()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(_SWEEP)
            self.expire(trio.current_time())

    def expire(self, now: float) -> None:
        """Close every connection whose client was to send a head by `now`."""
        for lane in [lane for lane in self.lanes if lane.due <= now]:
            with contextlib.suppress(OSError):
                lane.expire()
        if self.closing:
            self._retire_idle()

    # ---- shutdown

    def is_draining(self) -> bool:
        """Replies say `Connection: close` now."""
        return self.draining

    def start_draining(self) -> None:
        """Say `Connection: close` on every reply from now on."""
        self.draining = True

    async def close_listeners(self) -> None:
        """Let nobody in any more but who is on the way; takes a moment."""
        for bound in self._bound:
            bound.listener.shut()
        await trio.sleep(_LAST_ARRIVALS)
        for bound in self._bound:
            with contextlib.suppress(OSError):
                while (link := bound.listener.accept_nowait()) is not None:
                    self._admit(link, bound.config)
            bound.listener.close()

    async def retire_idle(self) -> None:
        """End the connections that carry nothing, now and from now on; takes a moment for their goodbye."""
        self._retire_idle(served=True)
        await trio.sleep(_GOODBYE)
        self.closing = True
        self.expire(trio.current_time())
        await trio.sleep(_GOODBYE)
        self.expire(trio.current_time())

    def _retire_idle(self, *, served: bool = False) -> None:
        """End the connections that wait for a request, or only those that have brought one before.

        Who is not that far, in a handshake or before it, has another second.
        """
        soon = trio.current_time() + _SWEEP
        for patience in self._handshakes:
            patience.deadline = min(patience.deadline, soon)
        for lane in list(self.lanes):
            if not lane.running:
                lane.due = min(lane.due, soon)
            elif lane.idle and (lane.served or not served) and lane.link.is_quiet():
                lane.retire()
