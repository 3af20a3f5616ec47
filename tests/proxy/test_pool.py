"""The pool: whose connection it is, who waits for it, and that no place is ever lost."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from attrs import define, field

from trio_gateway.config.model import PoolConfig
from trio_gateway.errors import ConnectTimedOut
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.pool import Lease, Pool, PoolStatistics


@define
class Target:
    """What a pool connects to: socket pairs, whose far ends the test holds."""

    links: list[Link] = field(factory=list)
    peers: list[socket.socket] = field(factory=list)
    delay: float = 0.0
    error: Exception | None = None

    async def connect(self) -> Link:
        """One more connection, after `delay`; fails while there is an `error`."""
        await trio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        near, far = socket.socketpair()
        near.setblocking(False)
        self.peers.append(far)
        link = Link(near, ("peer", 1), ("here", 2))
        self.links.append(link)
        return link

    @property
    def open(self) -> int:
        """Connections that nobody closed on our side."""
        return sum(not link.closed for link in self.links)

    def close(self) -> None:
        """Close both ends of everything."""
        for link in self.links:
            link.close()
        for peer in self.peers:
            peer.close()


@pytest.fixture
def target(nursery: trio.Nursery):
    """A target that is closed behind the test."""
    target = Target()
    yield target
    for peer in target.peers:
        peer.close()
    for link in target.links:
        link._sock.close()


def pool_of(target: Target, **config: float) -> Pool:
    return Pool(PoolConfig(**config), target.connect)  # type: ignore[arg-type]


def statistics(active: int = 0, idle: int = 0, waiting: int = 0) -> PoolStatistics:
    return PoolStatistics(active, idle, waiting)


async def filled(pool: Pool, count: int) -> list[Lease]:
    """That many leases at once."""
    return [await pool.take() for _ in range(count)]


# ---- order ----------------------------------------------------------------------------------------


async def test_the_youngest_idle_connection_serves_next(target: Target, autojump_clock: object) -> None:
    """Last in, first out, so that the others can age."""
    pool = pool_of(target)
    first, second = await filled(pool, 2)
    first.give_back()
    second.give_back()
    assert (await pool.take()).link is second.link
    assert (await pool.take()).link is first.link
    assert len(target.links) == 2


async def test_a_lease_tells_whether_its_connection_served_before(target: Target) -> None:
    """A new connection is not reused, one that comes from the pool is."""
    pool = pool_of(target)
    lease = await pool.take()
    assert not lease.reused
    lease.give_back()
    assert (await pool.take()).reused


async def test_takers_beyond_the_cap_wait_first_in_first_out(target: Target, autojump_clock: object) -> None:
    """A connection that comes back goes to the first that waits; nobody overtakes."""
    pool = pool_of(target, max_connections=1)
    served: list[int] = []

    async def take(number: int) -> None:
        lease = await pool.take()
        served.append(number)
        await trio.sleep(1)
        lease.give_back() if number % 2 else lease.discard()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics() == statistics(active=1, waiting=4)
    assert served == [0, 1, 2, 3, 4]
    assert len(target.links) == 3  # given back by 1 and 3, so 2 and 4 did not need their own
    assert pool.statistics() == statistics()


async def test_a_newcomer_does_not_take_what_a_waiter_was_granted(
    target: Target, autojump_clock: object
) -> None:
    """Between the grant and the waiter's next step the connection belongs to the waiter."""
    pool = pool_of(target, max_connections=1)
    lease = await pool.take()
    order: list[str] = []

    async def take(name: str) -> None:
        mine = await pool.take()
        order.append(name)
        mine.give_back()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "waiter")
        await trio.testing.wait_all_tasks_blocked()
        lease.give_back()
        assert pool.take_nowait() is None
        nursery.start_soon(take, "newcomer")
    assert order == ["waiter", "newcomer"]


# ---- judging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["stale bytes", "eof"])
@pytest.mark.parametrize("when", ["taken", "handed over", "swept"])
async def test_a_connection_that_is_not_quiet_is_never_used_again(
    fault: str, when: str, target: Target, autojump_clock: object
) -> None:
    """Bytes that nobody asked for, or the end, cost an idle connection."""
    pool = pool_of(target, max_connections=1)
    lease = await pool.take()
    (peer,) = target.peers
    peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n") if fault == "stale bytes" else peer.close()
    if when == "handed over":
        async with trio.open_nursery() as nursery:
            taken: list[Lease] = []

            async def take() -> None:
                taken.append(await pool.take())

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            lease.give_back()
        (again,) = taken
    else:
        lease.give_back()
        if when == "swept":
            pool.sweep()
            assert pool.statistics() == statistics()
        again = await pool.take()
    assert not again.reused
    assert again.link is not lease.link
    assert lease.link.closed
    assert pool.statistics() == statistics(active=1)


@pytest.mark.parametrize(
    ("config", "promise", "seconds"),
    [
        ({"idle_timeout": 4.0}, None, 4.0),
        ({"idle_timeout": 4.0}, 2.0, 2.0),
        ({"idle_timeout": 4.0}, 60.0, 4.0),
        ({"idle_timeout": 400.0, "max_lifetime": 10.0}, None, 10.0),
    ],
)
async def test_idle_connections_age_on_trios_clock(
    config: dict[str, float], promise: float | None, seconds: float, target: Target, autojump_clock: object
) -> None:
    """`idle_timeout`, the upstream's own promise and `max_lifetime`: the shortest rules."""
    pool = pool_of(target, **config)
    (await pool.take()).give_back(promise)
    await trio.sleep(seconds - 0.01)
    pool.sweep()
    assert pool.statistics() == statistics(idle=1)
    await trio.sleep(0.02)
    assert pool.take_nowait() is None
    assert pool.statistics() == statistics()
    assert target.open == 0


async def test_the_sweep_closes_what_aged_out(target: Target, autojump_clock: object) -> None:
    """Without any taker, old connections go and younger ones stay."""
    pool = pool_of(target)
    old, young = await filled(pool, 2)
    old.give_back()
    await trio.sleep(3)
    young.give_back()
    await trio.sleep(2)
    pool.sweep()
    assert (old.link.closed, young.link.closed) == (True, False)
    assert pool.statistics() == statistics(idle=1)


async def test_a_connection_past_its_lifetime_is_not_kept(target: Target, autojump_clock: object) -> None:
    """`max_lifetime` also counts time in use: it lets new addresses in."""
    pool = pool_of(target, max_lifetime=10.0)
    lease = await pool.take()
    await trio.sleep(10)
    lease.give_back()
    assert lease.link.closed
    assert pool.statistics() == statistics()


async def test_what_cannot_be_repeated_takes_a_young_connection(
    target: Target, autojump_clock: object
) -> None:
    """A connection that idled for `max_idle` seconds stays for others, and a new one is opened."""
    pool = pool_of(target)
    old = await pool.take()
    old.give_back()
    await trio.sleep(1.0)
    lease = await pool.take(max_idle=1.0)
    assert not lease.reused
    assert pool.statistics() == statistics(active=1, idle=1)
    assert (await pool.take()).link is old.link


async def test_an_old_idle_connection_gives_its_place_to_a_new_one(
    target: Target, autojump_clock: object
) -> None:
    """At the cap, a taker that must not use an idle connection replaces it instead of waiting."""
    pool = pool_of(target, max_connections=1)
    old = await pool.take()
    old.give_back()
    await trio.sleep(1.5)
    assert not (await pool.take(max_idle=1.0)).reused
    assert old.link.closed
    assert pool.statistics() == statistics(active=1)


async def test_open_never_reuses(target: Target, autojump_clock: object) -> None:
    """The replacement of a stale connection is a new one, though idle ones are there."""
    pool = pool_of(target, max_connections=2)
    one, two = await filled(pool, 2)
    one.give_back()
    two.give_back()
    fresh = await pool.open()
    assert not fresh.reused
    assert one.link.closed  # the eldest made room
    assert pool.statistics() == statistics(active=1, idle=1)


async def test_open_waits_for_a_place_and_takes_no_used_connection(
    target: Target, autojump_clock: object
) -> None:
    """A connection that comes back to a waiter who wants a new one is closed for its place."""
    pool = pool_of(target, max_connections=1)
    lease = await pool.take()
    opened: list[Lease] = []

    async def replace() -> None:
        opened.append(await pool.open())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace)
        await trio.testing.wait_all_tasks_blocked()
        lease.give_back()
    assert not opened[0].reused
    assert lease.link.closed


async def test_an_exclusive_connection_is_never_shared(target: Target) -> None:
    """What carried NTLM or Negotiate is closed when it comes back."""
    pool = pool_of(target)
    lease = await pool.take()
    lease.connection.exclusive = True
    lease.give_back()
    assert lease.link.closed
    assert pool.statistics() == statistics()


@pytest.mark.parametrize("max_idle", [0, 2])
async def test_no_more_than_max_idle_are_kept(max_idle: int, target: Target, autojump_clock: object) -> None:
    """Of those beyond `max_idle` the eldest go, when they rested for a second; with none, all go at once."""
    pool = pool_of(target, max_idle=max_idle)
    leases = await filled(pool, 4)
    for lease in leases:
        lease.give_back()
    assert pool.statistics() == statistics(idle=4 if max_idle else 0)
    await trio.sleep(1.0)
    pool.sweep()
    assert pool.statistics() == statistics(idle=max_idle)
    assert [lease.link.closed for lease in leases] == [True] * (4 - max_idle) + [False] * max_idle


async def test_a_burst_that_comes_again_finds_its_connections(target: Target, autojump_clock: object) -> None:
    """Many takers in turns, all at once each time, cost no connection each time."""
    pool = pool_of(target, max_idle=2)
    for _ in range(5):
        for lease in await filled(pool, 8):
            lease.give_back()
        await trio.sleep(0.3)
        pool.sweep()
    assert len(target.links) == 8


# ---- numbers --------------------------------------------------------------------------------------


async def test_connects_are_counted_and_timed(target: Target, autojump_clock: object) -> None:
    """Those begun, how long those took that came about, and why the others did not; reuse is none."""
    pool = pool_of(target)
    target.delay = 0.25
    (await pool.take()).give_back()
    (await pool.take()).discard()
    target.error = ConnectTimedOut()
    with pytest.raises(ConnectTimedOut):
        await pool.take()
    with trio.move_on_after(0.1):
        await pool.take()
    stats = pool.stats
    assert (stats.connects, sum(stats.connect_times), stats.connect_seconds) == (3, 1, pytest.approx(0.25))
    assert stats.connect_failures == {"connect_timeout": 1}
    assert stats.waits == 0


@pytest.mark.parametrize("patience", [1.5, 3.0])
async def test_waits_for_a_place_are_counted_and_timed(
    patience: float, target: Target, autojump_clock: object
) -> None:
    """Whether they bring a place or the taker gives up."""
    pool = pool_of(target, max_connections=1)
    lease = await pool.take()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_give_back_after, 2.0, lease)
        with trio.move_on_after(patience):
            await pool.take()
    assert (pool.stats.waits, pool.stats.wait_seconds) == (1, pytest.approx(min(patience, 2.0)))
    assert pool.stats.connects == 1


async def _give_back_after(seconds: float, lease: Lease) -> None:
    await trio.sleep(seconds)
    lease.give_back()


# ---- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["give_back", "discard"])
@pytest.mark.parametrize("second", ["give_back", "discard"])
async def test_ending_a_lease_again_changes_nothing(first: str, second: str, target: Target) -> None:
    """The first end counts, also when the connection has served another taker since."""
    pool = pool_of(target, max_connections=1)
    lease = await pool.take()
    getattr(lease, first)()
    ended = pool.statistics()
    getattr(lease, second)()
    assert pool.statistics() == ended
    other = await pool.take()
    getattr(lease, second)()
    assert not other.link.closed
    assert pool.statistics() == statistics(active=1)


async def test_a_failed_connect_gives_its_place_to_the_next(target: Target, autojump_clock: object) -> None:
    """An error of `connect` reaches its taker only, and the place goes on."""
    pool = pool_of(target, max_connections=1)
    target.error, target.delay = ConnectionRefusedError(), 1.0
    outcomes: list[str] = []

    async def take() -> None:
        try:
            (await pool.take()).give_back()
        except ConnectionRefusedError:
            outcomes.append("refused")
        else:
            outcomes.append("served")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(take)
        await trio.sleep(1.5)
        target.error = None
    assert outcomes == ["refused", "served", "served"]
    assert pool.statistics() == statistics(idle=1)


@pytest.mark.parametrize("stage", ["waiting", "granted", "connecting"])
async def test_a_cancelled_taker_takes_nothing(stage: str, target: Target, autojump_clock: object) -> None:
    """Wherever the cancellation meets it, the place or the connection goes back."""
    pool = pool_of(target, max_connections=1)
    lease = None if stage == "connecting" else await pool.take()
    target.delay = 5.0
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.take)
            await trio.testing.wait_all_tasks_blocked()
            if stage == "granted":
                assert lease is not None
                scope.cancel()
                lease.give_back()
                lease = None
            scope.cancel()
    assert pool.statistics().waiting == 0
    if lease is not None:
        lease.give_back()
    assert pool.statistics() == statistics(idle=int(stage != "connecting"))
    target.delay = 0.0
    assert await pool.take()


async def test_a_closed_pool_keeps_nothing(target: Target) -> None:
    """Idle connections close at once, the others when they come back; who still waits is served."""
    pool = pool_of(target)
    used, idle = await filled(pool, 2)
    idle.give_back()
    pool.close()
    assert (used.link.closed, idle.link.closed) == (False, True)
    used.give_back()
    assert used.link.closed
    (await pool.take()).give_back()
    assert target.open == 0
    assert pool.statistics() == statistics()


async def test_repr_shows_the_statistics(target: Target) -> None:
    """An operator in a debugger sees what the pool holds."""
    pool = pool_of(target)
    (await pool.take()).give_back()
    await pool.open()
    assert repr(pool) == "<Pool active=1 idle=1 waiting=0>"
