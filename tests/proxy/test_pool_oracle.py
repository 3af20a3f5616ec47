"""The pool against a naive model of it, operation by operation.

The model keeps no count that could go wrong: free places are what is left when everybody was asked.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from typing import TypeVar

import trio
import trio.testing
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gateway.config.model import PoolConfig
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.pool import Lease, Pool

T = TypeVar("T")
CONFIG = PoolConfig(max_connections=3, max_idle=2, idle_timeout=4.0, max_lifetime=10.0)
YOUNG = 1.0
REST = 1.0


@define(eq=False)
class Taker:
    """One task that asks for a connection, and what became of it."""

    takes_idle: bool
    max_idle: float
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    dialled: trio.Event = field(factory=trio.Event)  # lets its connect return
    refused: bool = False
    lease: Lease | None = None


@define(eq=False)
class Modelled:
    """A connection as the model sees it."""

    link: Link | None
    opened_at: float
    idle_since: float = 0.0
    promise: float = math.inf
    quiet: bool = True
    exclusive: bool = False


@define
class Model:
    """What the pool must do, written for the reader and not for speed."""

    idle: list[Modelled] = field(factory=list)
    waiting: list[Taker] = field(factory=list)
    connecting: list[Taker] = field(factory=list)
    held: dict[Taker, Modelled] = field(factory=dict)

    @property
    def free(self) -> int:
        """Places that nobody uses."""
        return CONFIG.max_connections - len(self.idle) - len(self.connecting) - len(self.held)

    def fresh(self, connection: Modelled, now: float) -> bool:
        """It may serve again, as far as time goes."""
        idle = now - connection.idle_since
        limit = min(CONFIG.idle_timeout, connection.promise)
        return idle < limit and now - connection.opened_at < CONFIG.max_lifetime

    def take(self, taker: Taker, now: float) -> None:
        """Use the youngest idle connection that is good, else a place, else wait."""
        while taker.takes_idle and not self.waiting and self.idle:
            youngest = self.idle[-1]
            if self.fresh(youngest, now) and now - youngest.idle_since >= taker.max_idle:
                break
            self.idle.pop()
            if self.fresh(youngest, now) and youngest.quiet:
                self.held[taker] = youngest
                return
        if not self.free and self.idle:
            self.idle.pop(0)
        (self.connecting if self.free and not self.waiting else self.waiting).append(taker)

    def connected(self, taker: Taker, now: float) -> None:
        """Its connection came up."""
        self.connecting.remove(taker)
        self.held[taker] = Modelled(None, now)

    def gave_up(self, taker: Taker) -> None:
        """It was cancelled, or its connect failed."""
        if taker in self.waiting:
            self.waiting.remove(taker)
        elif taker in self.connecting:
            self.connecting.remove(taker)
            self.serve_next()

    def ended(self, taker: Taker, now: float, *, clean: bool) -> None:
        """Its lease ended."""
        connection = self.held.pop(taker)
        connection.idle_since = now
        if not clean or connection.exclusive or now - connection.opened_at >= CONFIG.max_lifetime:
            self.serve_next()
        elif self.waiting and self.waiting[0].takes_idle and connection.quiet:
            self.held[self.waiting.pop(0)] = connection
        elif self.waiting:
            self.serve_next()
        else:
            self.idle.append(connection)
            self.trim(now)

    def serve_next(self) -> None:
        """A place came free."""
        if self.waiting:
            self.connecting.append(self.waiting.pop(0))

    def sweep(self, now: float) -> None:
        """Only what is good stays."""
        self.idle = [one for one in self.idle if self.fresh(one, now) and one.quiet]
        self.trim(now)

    def trim(self, now: float) -> None:
        """Of those beyond `max_idle` only what rests for less than a second stays."""
        while len(self.idle) > CONFIG.max_idle and now - self.idle[0].idle_since >= REST:
            self.idle.pop(0)


Step = tuple[str, int]


@define(eq=False)
class Comparison:
    """Runs the same steps on a pool and on the model, and compares after each."""

    nursery: trio.Nursery
    pool: Pool = field(init=False)
    model: Model = field(factory=Model)
    links: list[Link] = field(factory=list)
    peers: list[socket.socket] = field(factory=list)
    current: dict[trio.lowlevel.Task, Taker] = field(factory=dict)
    now: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.pool = Pool(CONFIG, self.connect)

    async def connect(self) -> Link:
        """Returns when the test lets it."""
        taker = self.current[trio.lowlevel.current_task()]
        await taker.dialled.wait()
        if taker.refused:
            raise ConnectionRefusedError
        near, far = socket.socketpair()
        near.setblocking(False)
        self.peers.append(far)
        self.links.append(link := Link(near, ("peer", 1), ("here", 2)))
        return link

    async def run(self, taker: Taker) -> None:
        """The taker's task."""
        self.current[trio.lowlevel.current_task()] = taker
        with taker.scope:
            try:
                if taker.takes_idle:
                    taker.lease = await self.pool.take(taker.max_idle)
                else:
                    taker.lease = await self.pool.open()
            except ConnectionRefusedError:
                pass

    async def step(self, verb: str, number: int) -> None:
        """One step on both sides."""
        self.now = trio.current_time()
        do: Callable[[int], None] = getattr(self, verb)
        do(number)
        await trio.testing.wait_all_tasks_blocked()
        self.compare()

    # ---- steps

    def take(self, number: int) -> None:
        """A taker of any connection, of a young one, or of a new one."""
        taker = Taker(takes_idle=number % 3 != 2, max_idle=YOUNG if number % 3 == 1 else math.inf)
        self.nursery.start_soon(self.run, taker)
        self.model.take(taker, self.now)

    def connected(self, number: int) -> None:
        """A connect comes to its end."""
        if taker := pick(self.model.connecting, number):
            self.model.connected(taker, self.now)
            taker.dialled.set()

    def refused(self, number: int) -> None:
        """A connect fails."""
        if taker := pick(self.model.connecting, number):
            self.model.gave_up(taker)
            taker.refused = True
            taker.dialled.set()

    def cancel(self, number: int) -> None:
        """A taker that waits or connects is cancelled."""
        if taker := pick([*self.model.waiting, *self.model.connecting], number):
            self.model.gave_up(taker)
            taker.scope.cancel()

    def give_back(self, number: int) -> None:
        """A connection comes back, sometimes with the upstream's promise."""
        if taker := pick(list(self.model.held), number):
            promise = 2.0 if number % 4 == 3 else None
            if promise is not None:
                self.model.held[taker].promise = promise
            self.model.ended(taker, self.now, clean=True)
            lease(taker).give_back(promise)

    def discard(self, number: int) -> None:
        """A connection is given up."""
        if taker := pick(list(self.model.held), number):
            self.model.ended(taker, self.now, clean=False)
            lease(taker).discard()

    def give_back_and_cancel(self, number: int) -> None:
        """A waiter is cancelled between its grant and its next step."""
        waiter = self.model.waiting[0] if self.model.waiting else None
        self.give_back(number)
        if waiter is not None and waiter not in self.model.held:
            self.model.gave_up(waiter)
            waiter.scope.cancel()
        elif waiter is not None:  # too late: it has its connection
            waiter.scope.cancel()

    def cancel_and_give_back(self, number: int) -> None:
        """The first waiter is cancelled, and before it notices a connection comes back."""
        holder = pick(list(self.model.held), number)
        waiter = self.model.waiting[0] if self.model.waiting else None
        if waiter and waiter.takes_idle and holder and self.model.held[holder].quiet:
            self.model.gave_up(waiter)
            waiter.scope.cancel()
            self.give_back(number)

    def repeat(self, number: int) -> None:
        """Leases that ended are ended again."""
        for old in self.current.values():
            if old.lease is not None and old not in self.model.held:
                old.lease.give_back() if number % 2 else old.lease.discard()

    def disturb(self, number: int) -> None:
        """The upstream sends what nobody asked for, or leaves."""
        connections = [*self.model.idle, *self.model.held.values()]
        connection = pick([one for one in connections if one.quiet], number)
        if connection is not None and connection.link is not None:
            connection.quiet = False
            peer = self.peers[self.links.index(connection.link)]
            peer.send(b"?") if number % 2 else peer.shutdown(socket.SHUT_WR)

    def bind(self, number: int) -> None:
        """A connection carries credentials of its own."""
        if taker := pick(list(self.model.held), number):
            self.model.held[taker].exclusive = True
            lease(taker).connection.exclusive = True

    def sweep(self, number: int) -> None:
        """The sweep comes by."""
        self.model.sweep(self.now)
        self.pool.sweep()

    # ---- comparing

    def compare(self) -> None:
        """Both sides agree on who holds what, who waits, and what is open."""
        model, seen = self.model, self.pool.statistics()
        assert seen.active == len(model.held) + len(model.connecting)
        assert (seen.idle, seen.waiting) == (len(model.idle), len(model.waiting))
        for taker, connection in model.held.items():
            held = lease(taker).link
            assert connection.link in (None, held)
            connection.link = held
        known = {one.link for one in (*model.idle, *model.held.values())}
        assert {link for link in self.links if not link.closed} == known

    def finish(self) -> None:
        """Everybody goes home: the pool is as it was."""
        for taker in [*self.model.waiting, *self.model.connecting]:
            taker.scope.cancel()
        for taker in list(self.model.held):
            lease(taker).discard()

    def close(self) -> None:
        """Nothing may be open but what idles; then close that, and the far ends."""
        self.pool.close()
        assert all(link.closed for link in self.links)
        seen = self.pool.statistics()
        assert (seen.active, seen.idle, seen.waiting) == (0, 0, 0)
        for peer in self.peers:
            peer.close()


def pick(candidates: list[T], number: int) -> T | None:
    return candidates[number % len(candidates)] if candidates else None


def lease(taker: Taker) -> Lease:
    assert taker.lease is not None
    return taker.lease


VERBS: dict[str, int] = {
    "take": 6,
    "connected": 5,
    "give_back": 4,
    "discard": 1,
    "refused": 1,
    "cancel": 2,
    "give_back_and_cancel": 2,
    "cancel_and_give_back": 2,
    "repeat": 1,
    "disturb": 1,
    "bind": 1,
    "sweep": 1,
    "wait": 2,
}
STEPS = st.tuples(
    st.sampled_from([verb for verb, weight in VERBS.items() for _ in range(weight)]), st.integers(0, 11)
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, min_size=20, max_size=80))
def test_the_pool_does_what_the_model_does(steps: list[Step]) -> None:
    """Whatever happens in whatever order, both agree, and in the end every place is free."""
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            comparison = Comparison(nursery)
            try:
                for verb, number in steps:
                    if verb == "wait":
                        clock.jump((0.3, 1.1, 2.5, 5.0)[number % 4])
                    else:
                        await comparison.step(verb, number)
            finally:
                comparison.finish()
        comparison.close()

    trio.run(main, clock=clock)
