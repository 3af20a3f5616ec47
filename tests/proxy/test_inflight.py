"""The table of exchanges, and clients that leave: how soon the upstream is let go."""

from __future__ import annotations

import math
import select
from collections.abc import AsyncIterator, Callable
from itertools import permutations

import pytest
import trio
import trio.testing

from tests.support.client import RawClient, request
from tests.support.exchange import Made
from tests.support.gateway import World, world
from tests.support.upstream import Script, Wire, answering
from trio_gateway.errors import ClientGone
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.inflight import InFlight
from trio_gateway.proxy.link import Link

USERS = "/orchestrator/users"
CONFIG = """
server: {bind: ["127.0.0.1:8000"]}
circuit_breaker: {failure_threshold: 1, failure_on: [connect, timeout, reset, 5xx]}
endpoints:
  - {url: "http://backend.example/", name: users, methods: [GET, POST], timeout: 30}
"""


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.closed()


async def silent_stream(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await wire.closed()


async def takes_nothing(wire: Wire) -> None:
    await wire.head()
    hang_up = select.poll()
    hang_up.register(wire.link.fileno(), 0)
    for _ in range(10_000):
        if hang_up.poll(0):
            return
        await trio.sleep(0.01)


def late(seconds: float) -> Script:
    """A backend that answers late, unless it is let go."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            with trio.move_on_after(seconds):
                await wire.closed()
                return
            await wire.reply()

    return script


def fin(link: Link) -> None:
    link.close()


def half_close(link: Link) -> None:
    link.shutdown_write()


LEAVE = pytest.mark.parametrize("leave", [fin, half_close])


async def assert_let_go(here: World, since: float, within: float, reason: str = "client_gone") -> None:
    """The exchange ends for `reason` and its upstream connection closes, `within` seconds."""
    while here.backend.open or not here.lines:
        assert trio.current_time() - since < 5, "never noticed"
        await trio.sleep(0.001)
    assert trio.current_time() - since <= within
    assert here.lines[-1][13] == reason
    assert here.idle()
    upstream = here.gateway.runtime.upstreams["users"]
    assert upstream.breaker.failure_count == 0
    assert upstream.pool.statistics().idle == 0


async def started(here: World, data: bytes, settle: float) -> RawClient:
    client = await here.client()
    await client.send(data)
    await trio.sleep(settle)
    return client


@LEAVE
@pytest.mark.parametrize("settle", [0.0, 0.01, 0.1, 20.0])
@pytest.mark.parametrize("script", [silent, silent_stream])
async def test_a_client_that_leaves_is_noticed(
    script: Script, settle: float, leave: Callable[[Link], None], autojump_clock: object
) -> None:
    """Before the reply's head and within a silent stream, right away or much later."""
    async with world(CONFIG, script) as here:
        client = await started(here, request(USERS), settle)
        await trio.testing.wait_all_tasks_blocked()
        since = trio.current_time()
        leave(client.link)
        await assert_let_go(here, since, 0.1)
        assert here.lines[-1][8] == (499 if script is silent else 200)


@LEAVE
async def test_a_departure_behind_pipelined_bytes_is_noticed(
    leave: Callable[[Link], None], autojump_clock: object
) -> None:
    """Though more requests stand unread before the FIN; none of them is served."""
    async with world(CONFIG, silent) as here:
        client = await started(here, request(USERS) * 3, 0.2)
        await client.send(request(USERS))
        since = trio.current_time()
        leave(client.link)
        await assert_let_go(here, since, 0.3)
        await trio.sleep(1)
        assert len(here.lines) == 1


@LEAVE
async def test_a_departure_during_connect_is_noticed(
    leave: Callable[[Link], None], autojump_clock: object
) -> None:
    """The connect is given up with it."""
    async with world(CONFIG) as here:
        here.network.hang.add(here.backend.address)
        client = await started(here, request(USERS), 1.0)
        since = trio.current_time()
        leave(client.link)
        await assert_let_go(here, since, 0.1)


@LEAVE
@pytest.mark.parametrize(
    ("script", "size"),
    [(silent, 10), (takes_nothing, 3_000_000)],
    ids=["the client is awaited", "the upstream is awaited"],
)
async def test_a_departure_in_a_stalled_upload_is_noticed(
    script: Script, size: int, leave: Callable[[Link], None], autojump_clock: object
) -> None:
    """Whoever holds it up; the upstream sees an abort, never a whole body."""
    async with world(CONFIG, script) as here:
        client = await here.client()
        await client.send(request(USERS, f"Content-Length: {size}", method="POST"))
        if size > 10:
            with trio.move_on_after(3):
                await client.send(bytes(size))
        else:
            await client.send(b"12345")
            await trio.sleep(3)
        since = trio.current_time()
        leave(client.link)
        await assert_let_go(here, since, 0.3)


async def test_a_departure_while_queueing_for_a_connection_is_noticed(autojump_clock: object) -> None:
    """The place in the queue goes to the next."""
    config = CONFIG.replace("timeout: 30", "timeout: 30, pool: {max_connections: 1}")
    async with world(config, silent) as here:
        await started(here, request(USERS), 0.1)
        second = await started(here, request(USERS), 0.1)
        pool = here.gateway.runtime.upstreams["users"].pool
        assert pool.statistics().waiting == 1
        second.link.close()
        await trio.sleep(0.1)
        assert (pool.statistics().waiting, pool.statistics().active) == (0, 1)
        assert here.lines[-1][8] == 499


async def test_a_quick_exchange_is_never_registered(autojump_clock: object) -> None:
    """It costs one entry, and leaves nothing."""
    async with world(CONFIG, answering) as here:
        table = here.gateway.runtime.in_flight
        client = await here.client()
        for _ in range(100):
            assert (await client.get(USERS)).status == 200
            await trio.sleep(0.003)
            assert len(table) == 0
            assert list(table) == []


async def test_the_table_shows_what_is_in_flight_young_and_old(autojump_clock: object) -> None:
    """An operator sees each exchange, whether its client is watched yet or not."""
    async with world(CONFIG, silent) as here:
        table = here.gateway.runtime.in_flight
        for number in range(3):
            await started(here, request(f"{USERS}/{number}"), 1.0 if number < 2 else 0.0)
        await trio.testing.wait_all_tasks_blocked()
        assert len(table) == 3
        assert sorted(exchange.rest for exchange in table) == [b"/0", b"/1", b"/2"]


async def test_a_watched_connection_serves_on(autojump_clock: object) -> None:
    """Slow exchanges one after the other on one connection, watched anew each time."""
    async with world(CONFIG, late(0.2)) as here:
        client = await here.client()
        for _ in range(5):
            assert (await client.get(USERS)).status == 200
        await client.send(request(USERS))
        await trio.sleep(0.1)
        since = trio.current_time()
        client.link.close()
        await assert_let_go(here, since, 0.1)


async def test_many_departures_at_once_are_noticed_together(autojump_clock: object) -> None:
    """Each costs its own exchange; who stays is served."""
    async with world(CONFIG, late(5)) as here:
        clients = [await here.client() for _ in range(50)]
        for client in clients:
            await client.send(request(USERS))
        await trio.sleep(1)
        for client in clients[1:]:
            client.link.close()
        await trio.sleep(0.1)
        assert here.backend.open == 1
        assert (await clients[0].answer()).status == 200
        reasons = [line[13] for line in here.lines]
        assert sorted(set(reasons)) == ["client_gone", "completed"]
        assert reasons.count("client_gone") == 49


async def test_a_socket_that_is_gone_before_it_is_watched_is_a_departure(autojump_clock: object) -> None:
    """A descriptor that was closed beneath its exchange stops that exchange, never the watch over all."""
    async with world(CONFIG, silent) as here:
        client = await here.client()
        await client.send(request(USERS))
        await trio.sleep(0.01)
        (lane,) = here.gateway.server.lanes
        lane.link.close()
        await trio.sleep(0.1)
        assert here.idle()
        assert (await here.get("/orchestrator/none")).status == 404
        other = await here.client()
        await other.send(request(USERS))
        await trio.sleep(1)
        other.link.close()
        await trio.sleep(0.1)
        assert here.idle()


async def test_a_watch_that_begins_again_takes_up_whose_client_left(autojump_clock: object) -> None:
    """A departure that came while nobody watched is acted upon, and one behind it."""
    made, in_flight = Made(), InFlight()
    exchanges = [made(), made(), made()]
    for exchange in exchanges:
        in_flight.enter(exchange)
    in_flight.client_left(exchanges[0])
    with trio.move_on_after(0.01):
        await in_flight.watch_departures()
    assert exchanges[0].error is None
    with trio.move_on_after(1):
        await in_flight.watch_departures()
    assert isinstance(exchanges[0].error, ClientGone)
    in_flight.client_left(exchanges[1])
    with trio.move_on_after(1):
        await in_flight.watch_departures()
    assert [type(exchange.error) for exchange in exchanges] == [ClientGone, ClientGone, type(None)]
    for sock in made.sockets:
        sock.close()


# ---- deadlines ------------------------------------------------------------------------------------------


class Due:
    """Exchanges with deadlines, each in a scope of its own, and when they were ended."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.made, self.table, self.ended = Made(), InFlight(), dict[int, float]()
        self._nursery = nursery

    async def begin(self, number: int, deadline: float) -> Exchange:
        """One that waits for nothing but its end."""
        exchange = self.made()
        self._nursery.start_soon(self._run, exchange, number, deadline)
        await trio.testing.wait_all_tasks_blocked()
        return exchange

    async def _run(self, exchange: Exchange, number: int, deadline: float) -> None:
        self.table.enter(exchange)
        with trio.CancelScope() as exchange.scope:
            exchange.end_at(deadline)
            await trio.sleep_forever()
        self.table.leave(exchange)
        self.ended[number] = trio.current_time()


@pytest.fixture
async def due(nursery: trio.Nursery) -> AsyncIterator[Due]:
    due = Due(nursery)
    nursery.start_soon(due.table.watch_deadlines)
    yield due
    for sock in due.made.sockets:
        sock.close()


@pytest.mark.parametrize("order", list(permutations((1.0, 2.0, 2.0, 30.0))))
async def test_each_ends_at_its_deadline_in_whatever_order_they_come(
    order: tuple[float, ...], due: Due, autojump_clock: object
) -> None:
    """To the moment on Trio's clock; nobody is ended for another's."""
    for number, deadline in enumerate(order):
        await due.begin(number, deadline)
    await trio.sleep(60)
    assert due.ended == pytest.approx(dict(enumerate(order)))
    assert len(due.table) == 0
    assert due.table.due == math.inf


async def test_a_deadline_moves_both_ways(due: Due, autojump_clock: object) -> None:
    """What was put off ends later, what was brought forward sooner; without one it never ends."""
    later, sooner, never = [await due.begin(number, 10) for number in range(3)]
    later.end_at(20)
    sooner.end_at(5)
    never.end_at(math.inf)
    await trio.sleep(100)
    assert due.ended == {0: pytest.approx(20), 1: pytest.approx(5)}
    never.cancel(ClientGone())


async def test_the_watch_sleeps_while_nothing_is_due(due: Due, autojump_clock: object) -> None:
    """Many quick exchanges with the same timeout cost one look a timeout, not one each."""
    looks = 0

    class Looks(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            nonlocal looks
            looks += task.name.endswith("watch_deadlines")

    trio.lowlevel.add_instrument(watching := Looks())
    exchange = due.made()
    for _ in range(1000):
        due.table.enter(exchange)
        exchange.end_at(trio.current_time() + 5)
        await trio.sleep(0.01)
        due.table.leave(exchange)
    trio.lowlevel.remove_instrument(watching)
    assert 1 <= looks <= 4


async def test_thousands_that_expire_one_by_one_cost_a_share_of_the_time(
    due: Due, autojump_clock: trio.testing.MockClock
) -> None:
    """Where a look takes long, others wait for the next one, for a few looks' time."""
    looks = 0

    class Many:
        """As many exchanges as a look needs a millisecond for, half of it in each walk."""

        @property
        def deadline(self) -> float:
            nonlocal looks
            looks += 1
            autojump_clock.jump(0.0005)
            return math.inf

    for number in range(200):
        await due.begin(number, 1 + number / 200)
    due.table.enter(Many())  # type: ignore[arg-type]
    await trio.sleep(3)
    assert len(due.ended) == 200
    late = [ended - 1 - number / 200 for number, ended in due.ended.items()]
    assert min(late) >= 0
    assert max(late) < 0.025
    assert looks / 2 < 60
