"""Connections to one target: last in, first out, every step O(1).

The youngest idle connection serves next, so the others age out at the other end. A `Lease` is the
right to use one connection. Whoever holds it ends it exactly once, by `give_back` or `discard`, and a
lease that is cancelled anywhere on the way is discarded: places cannot leak. Beyond `max_connections`
takers wait first in, first out; a place that comes free is handed to the first of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from trio_gateway.config.model import PoolConfig
from trio_gateway.errors import UpstreamError
from trio_gateway.observe.metrics import PoolStatistics, PoolStats
from trio_gateway.proxy.link import Link

Connect = Callable[[], Awaitable[Link]]

_REST = 1.0  # seconds that a connection beyond `max_idle` stays idle before it is closed


@define(slots=True, eq=False)
class Connection:
    """One upstream connection and what the pool must know to judge it later."""

    link: Link
    opened_at: float
    idle_since: float = 0.0
    keep_alive: float = math.inf  # seconds that the upstream promised to keep it
    exclusive: bool = False  # carried NTLM or Negotiate: never shared


@define(slots=True, eq=False)
class Lease:
    """The right to use one connection, once. `reused` tells that it carried a request before."""

    connection: Connection
    link: Link
    _pool: Pool
    reused: bool
    held: bool = True

    def give_back(self, keep_alive: float | None = None) -> None:
        """The connection is clean; it may serve again. Safe to repeat, also after `discard`."""
        if self.held:
            self.held = False
            self.link.begin_message(None)  # an idle connection holds no exchange
            if keep_alive is not None:
                self.connection.keep_alive = keep_alive
            self._pool._returned(self.connection)

    def discard(self) -> None:
        """Close the connection and free its place. Safe to repeat."""
        if self.held:
            self.held = False
            self.link.close()
            self._pool._place_freed()


@define(slots=True, eq=False)
class _Waiter:
    """A taker in the queue. It is granted an idle connection, or a place for a new one."""

    takes_idle: bool
    event: trio.Event = field(factory=trio.Event)
    granted: bool = False
    connection: Connection | None = None


class Pool:
    """The connections of one target. Not for use from several threads."""

    def __init__(self, config: PoolConfig, connect: Connect) -> None:
        self.config = config
        self._connect = connect
        self._idle: deque[Connection] = deque()
        self._places = config.max_connections  # free ones
        self._waiters: deque[_Waiter] = deque()
        self._closed = False
        self.stats = PoolStats()

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Pool active={now.active} idle={now.idle} waiting={now.waiting}>"

    def statistics(self) -> PoolStatistics:
        """What operators see."""
        idle = len(self._idle)
        return PoolStatistics(self.config.max_connections - self._places - idle, idle, len(self._waiters))

    # ---- taking

    def take_nowait(self, max_idle: float = math.inf) -> Lease | None:
        """An idle connection that is alive and was idle for less than `max_idle` seconds, or None.

        Without `max_idle`, for what can be sent again, the loop's word is enough that it is alive. None too
        while others wait: they come first.
        """
        if self._waiters:
            return None
        now = trio.current_time()
        idle = self._idle
        while idle:
            connection = idle.pop()
            if self._fresh(connection, now):
                if now - connection.idle_since >= max_idle:
                    idle.append(connection)  # good for others
                    return None
                link = connection.link
                if link.seems_quiet(now) if max_idle == math.inf else link.is_quiet():
                    return Lease(connection, link, self, True)
            connection.link.close()
            self._places += 1
        return None

    async def take(self, max_idle: float = math.inf) -> Lease:
        """A connection, idle or new; waits for a place. Raises what `connect` raises.

        The caller bounds the time. Cancelled, nothing is taken.
        """
        lease = self.take_nowait(max_idle)
        if lease is not None:
            return lease
        connection = await self._take_place(takes_idle=True)
        if connection is not None:
            return Lease(connection, connection.link, self, True)
        return await self._open()

    async def open(self) -> Lease:
        """A new connection, whatever is idle: the replacement of a stale one."""
        await self._take_place(takes_idle=False)
        return await self._open()

    async def _take_place(self, *, takes_idle: bool) -> Connection | None:
        """Wait for a place, or for a connection that comes back first."""
        if not self._places and self._idle:
            self._idle.popleft().link.close()
            self._places += 1
        if self._places and not self._waiters:
            self._places -= 1
            return None
        waiter = _Waiter(takes_idle)
        self._waiters.append(waiter)
        began = trio.current_time()
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.connection is not None:
                self._returned(waiter.connection)
            elif waiter.granted:
                self._place_freed()
            else:
                self._waiters.remove(waiter)
            raise
        finally:
            self.stats.waited(trio.current_time() - began)
        return waiter.connection

    async def _open(self) -> Lease:
        began = trio.current_time()
        self.stats.connects += 1
        try:
            link = await self._connect()
        except BaseException as error:
            self._place_freed()
            if isinstance(error, UpstreamError):
                self.stats.connect_failed(error.code)
            raise
        now = trio.current_time()
        self.stats.connected(now - began)
        return Lease(Connection(link, now), link, self, False)

    # ---- giving back

    def _returned(self, connection: Connection) -> None:
        now = trio.current_time()
        connection.idle_since = now
        if self._closed or connection.exclusive or now - connection.opened_at >= self.config.max_lifetime:
            connection.link.close()
            self._place_freed()
        elif self._waiters:
            self._hand_over(connection)
        else:
            self._idle.append(connection)
            self._trim(now)

    def _hand_over(self, connection: Connection) -> None:
        waiter = self._waiters.popleft()
        waiter.granted = True
        if waiter.takes_idle and connection.link.is_quiet():
            waiter.connection = connection
        else:
            connection.link.close()
        waiter.event.set()

    def _place_freed(self) -> None:
        if self._waiters:
            waiter = self._waiters.popleft()
            waiter.granted = True
            waiter.event.set()
        else:
            self._places += 1

    # ---- ageing

    def _fresh(self, connection: Connection, now: float) -> bool:
        idle = now - connection.idle_since
        return (
            idle < self.config.idle_timeout
            and idle < connection.keep_alive
            and now - connection.opened_at < self.config.max_lifetime
        )

    def sweep(self) -> None:
        """Close what aged out or was left by the upstream; called each second."""
        now = trio.current_time()
        kept: deque[Connection] = deque()
        for connection in self._idle:
            if self._fresh(connection, now) and connection.link.is_quiet():
                kept.append(connection)
            else:
                connection.link.close()
                self._places += 1
        self._idle = kept
        self._trim(now)

    def _trim(self, now: float) -> None:
        """Close the eldest beyond `max_idle` once they have rested: a burst wants them again in a moment."""
        idle, most = self._idle, self.config.max_idle
        while len(idle) > most and (not most or now - idle[0].idle_since >= _REST):
            idle.popleft().link.close()
            self._places += 1

    def close(self) -> None:
        """Close the idle connections now and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().link.close()
            self._places += 1
