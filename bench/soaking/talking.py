"""Sections `pairing` and `mixed`: random exchanges with faults at both ends, through both doors."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import trio
from attrs import define

from bench.soaking.backend import Backend
from bench.soaking.callers import STALE_UPLOAD, Caller, Tally, place
from bench.soaking.talk import filled
from bench.soaking.watched import Watch, config, watched
from tests.e2e.started import GatewayProcess
from tests.support.websocket import Peer, handshake
from trio_gateway.proxy.link import Link

_H2_SHARE = 4  # one client of so many speaks HTTP/2
_STREAMS = 4
_SHOWN = 10
_RARE = 0.01


@define
class Findings:
    """What was wrong, in words; empty when all is well."""

    wrong: list[str]

    def check(self, good: bool, what: str) -> None:
        """Note `what` unless `good`."""
        if not good:
            self.wrong.append(what)


async def talk(
    requests: int, clients: int, seed: int, *, mixed: bool, minutes: float | None, rate: float
) -> list[str]:
    """Run one section; prints what it saw and returns what was wrong."""
    tally, backend = Tally(requests), Backend()
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            await nursery.start(backend.serve)
            async with watched(Path(folder), config(backend.port)) as watch:
                watch.progress = lambda: tally.begun
                await _first(watch.gateway)
                baseline = watch.gateway.descriptors()
                began = time.perf_counter()
                async with trio.open_nursery() as others:
                    others.start_soon(_look_for_hangs, watch, tally)
                    if mixed:
                        others.start_soon(_reload, watch.gateway)
                        for kind in (_drip_head, _drip_body, _read_slowly, _vanish, _converse):
                            others.start_soon(_again_and_again, kind, watch.gateway, random.Random(seed))
                    if minutes:
                        others.start_soon(_end_after, 60 * minutes, tally)
                    await _all_clients(watch.gateway, tally, clients, seed, rate)
                    others.cancel_scope.cancel()
                seconds = time.perf_counter() - began
                rate = tally.begun / seconds
                print(f"{tally.begun} requests of {clients} clients in {seconds:.0f} s: {rate:.0f}/s")
                wrong = await _judged(watch, tally, backend, baseline)
            nursery.cancel_scope.cancel()
    return wrong


def _rest(rate: float, rng: random.Random) -> float:
    """Seconds until one of `rate` events a second; none where that is 0."""
    return rng.expovariate(rate) if rate else 0.0


async def _end_after(seconds: float, tally: Tally) -> None:
    """Begin nothing more then; what was begun goes on to its end."""
    await trio.sleep(seconds)
    tally.budget = tally.begun


async def _first(gateway: GatewayProcess) -> None:
    """One request: what the gateway opens only once is open then."""
    client = await gateway.client()
    await client.get(_TARGET.decode(), "X-Number: 0")
    client.link.close()


async def _all_clients(gateway: GatewayProcess, tally: Tally, clients: int, seed: int, rate: float) -> None:
    talkers = sum(1 if number % _H2_SHARE else _STREAMS for number in range(clients))
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            rng = random.Random(seed + number)
            caller = Caller(gateway.connect, tally, rng, partial(_rest, rate / talkers, rng))
            if number % _H2_SHARE == 0:
                nursery.start_soon(caller.over_h2, _STREAMS)
            else:
                nursery.start_soon(caller.over_h1)


async def _look_for_hangs(watch: Watch, tally: Tally) -> None:
    """Say where the gateway's tasks stand while an exchange is late, so that its cause is on record."""
    known: set[int] = set()
    while True:
        await trio.sleep(1)
        late = {number: link for number, link in tally.late().items() if number not in known}
        if late:
            known |= late.keys()
            print(f"  LATE: { ({number: place(link) for number, link in late.items()}) }")
            print(await watch.standing(), flush=True)


async def _judged(watch: Watch, tally: Tally, backend: Backend, descriptors: int) -> list[str]:
    """Print the counts and slopes, and compare the invariants."""
    for name, count in tally.ends.most_common():
        print(f"  {count:8} {name}")
    print(f"  {backend.requests:8} requests at the backend")
    for name, slope in watch.slopes().items():
        print(f"  slope: {slope:+.2f} {name} per 100 000 requests")
    now = await watch.settled()
    print(f"  at rest: {now}, {watch.gateway.descriptors()} descriptors ({descriptors} at the start)")
    found = Findings([*tally.wrong, *backend.mixed_up])
    _check_races(tally, backend, found)
    found.check(not now["handler_errors"], f"{now['handler_errors']} bugs were caught by a guard")
    for gauge in ("in_flight", "active", "waiting"):
        found.check(not now[gauge], f"{now[gauge]} {gauge} at rest")
    found.check(
        now["tasks"] <= max(sample.tasks for sample in watch.samples[:3]), f"{now['tasks']} tasks at rest"
    )
    found.check(watch.gateway.descriptors() <= descriptors, "descriptors are left open")
    _check_lines(watch, tally, found, now["dropped"])
    return found.wrong


def _check_races(tally: Tally, backend: Backend, found: Findings) -> None:
    """What two ends do in the same moment can't be told apart, but must stay rare."""
    print(f"  {backend.unasked} unasked replies to idle connections, {len(backend.met)} requests crossed one")
    found.wrong += [what for number, what in tally.strange.items() if number not in backend.met]
    found.check(
        len(backend.met) <= _RARE * backend.unasked + 2, f"{len(backend.met)} requests were sent in vain"
    )
    stale = tally.ends[STALE_UPLOAD]
    found.check(stale <= _RARE * tally.begun, f"{stale} uploads were sent in vain")


def _check_lines(watch: Watch, tally: Tally, found: Findings, dropped: int) -> None:
    """Each answered request has one access line, no request has two."""
    lines = watch.lines()
    found.wrong += watch.lines_of({f"soak-{number}" for number in tally.hung})
    twice = [name for name, count in lines.items() if count > 1]
    missing = [
        number
        for number in range(1, tally.begun + 1)
        if tally.answered[number] and f"soak-{number}" not in lines
    ]
    print(
        f"  {sum(lines.values())} access lines, {dropped} dropped, {len(missing)} missing, {len(twice)} twice"
    )
    found.check(len(missing) <= dropped, f"no access line for {missing[:_SHOWN]}")
    found.check(not twice, f"two access lines for {twice[:_SHOWN]}")


# ---- what else happens to a gateway -----------------------------------------------------------------


async def _reload(gateway: GatewayProcess) -> None:
    while True:
        await trio.sleep(2)
        gateway.process.send_signal(signal.SIGHUP)


async def _again_and_again(kind: object, gateway: GatewayProcess, rng: random.Random) -> None:
    while True:
        link = await gateway.connect()
        try:
            with trio.move_on_after(8):
                await kind(link, rng)  # type: ignore[operator]
        except OSError:
            pass
        finally:
            link.close()
        await trio.sleep(0.02)


_TARGET = b"/orchestrator/soak/0?plain"


async def _drip_head(link: Link, rng: random.Random) -> None:
    for byte in b"GET %b HTTP/1.1\r\nHost: drip\r\nX-Filler: %b\r\n" % (_TARGET, b"x" * 100):
        await link.send(bytes((byte,)))
        await trio.sleep(0.04 * rng.random())


async def _drip_body(link: Link, rng: random.Random) -> None:
    await link.send(b"POST %b HTTP/1.1\r\nHost: drip\r\nX-Number: 0\r\nContent-Length: 500\r\n\r\n" % _TARGET)
    for _ in range(rng.randrange(200)):
        await link.send(b"0;")
        await trio.sleep(0.01)


async def _read_slowly(link: Link, rng: random.Random) -> None:
    await link.send(b"GET /orchestrator/soak/7?plain HTTP/1.1\r\nHost: slow\r\nX-Number: 7\r\n\r\n")
    while await link.receive(rng.randrange(1, 2000)):  # noqa: ASYNC110  its pace is the point
        await trio.sleep(0.005)


async def _vanish(link: Link, rng: random.Random) -> None:
    await link.send(b"GET /orchestrator/soak/7?slow HTTP/1.1\r\nHost: gone\r\nX-Number: 7\r\n\r\n")
    await trio.sleep(rng.random() * 0.01)
    link.abort()


async def _converse(link: Link, rng: random.Random) -> None:
    """A WebSocket; what comes back must be what was said, and it may end without a goodbye."""
    await link.send(handshake("X-Number: 0", target=_TARGET.decode()))
    received = b""
    while b"\r\n\r\n" not in received:
        received += await link.receive() or b"\r\n\r\n"
    assert received.startswith(b"HTTP/1.1 101"), received
    peer = Peer(link, is_client=True)
    peer.reader.feed(received.partition(b"\r\n\r\n")[2])
    for _ in range(rng.randrange(20)):
        said = filled(rng.randrange(10**9), rng.choice((0, 20, 3000, 70_000)))
        await peer.send(said)
        assert await peer.message() == said
    if rng.random() < 0.7:
        await peer.close(1000)
        assert await peer.goodbye() == (1000, "")
