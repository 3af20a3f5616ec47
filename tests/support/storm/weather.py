"""One storm: the gateway, who stands around it, what befalls them, and what must be true behind it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import define, evolve, field

from tests.support.authority import Authority
from tests.support.doors import Caller
from tests.support.gateway import unprobed
from tests.support.stage import METHODS, Door, Stage, config_text, in_virtual_time
from tests.support.storm.backend import StormBackend
from tests.support.storm.client import StormClient
from tests.support.storm.dice import Frozen
from tests.support.storm.network import NarrowNetwork
from tests.support.upstream import Script, Wire
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import ClientGone
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.tls_link import TlsLink

HOSTS = ("backend.example", "second.example", "third.example")
SECURE = HOSTS[2]  # speaks TLS
_PATHS = tuple(f"/orchestrator/{name}" for name in ("users", "two", "three", "total", "kept", "nowhere"))
_LONGEST = 15.0  # seconds that nothing may happen: longer than every timer, those of a parting included
_ALL_TIMERS = 60.0  # a connection's pipelined requests may need all of theirs one after the other
_TIMED_OUT = {
    *("request_timeout", "upstream_timeout", "upstream_stalled", "client_stalled", "connect_timeout"),
    *("total_timeout", "websocket_idle"),
}
_SERVER = {
    "timeouts": {"head": 3, "body_idle": 3, "keep_alive": 4, "write": 3},
    "limits": {"requests_per_connection": 40, "connections": 200},
}
_TIMERS = {"timeout": 3, "timeouts": {"connect": 1, "idle": 2}, "websocket": {"idle_timeout": 3}}


def _endpoints(chance: random.Random, authority: Authority) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`users`, and the others: pools of one to three places, before backends that change."""

    def endpoint(name: str, **more: Any) -> dict[str, Any]:
        host = chance.choice(HOSTS)
        pool = {"max_connections": chance.randint(1, 3), "max_idle": chance.randint(0, 2)}
        breaker = {"failure_threshold": chance.choice((2, 1000)), "reset_timeout": 1, "half_open_max_wait": 2}
        scheme = "https" if host == SECURE else "http"
        base = {"name": name, "url": f"{scheme}://{host}:80/", "methods": METHODS, "pool": pool}
        made = {**base, **_TIMERS, "circuit_breaker": breaker, **more}
        if made["url"].startswith("https"):
            made["tls"] = {"ca": str(authority.folder / "ca.pem")}
        return made

    total = {**_TIMERS["timeouts"], "total": 4}  # type: ignore[dict-item]
    kept = {"fallback_strategy": "cached_response", "failure_threshold": 2, "reset_timeout": 1}
    others = [
        endpoint("two"),
        endpoint("three", allow=["127.0.0.0/8"]),
        endpoint("total", timeouts=total),
        endpoint("kept", circuit_breaker=kept),
        endpoint("nowhere", url="http://nowhere.example/"),
    ]
    return endpoint("users"), [each for each in others if chance.random() < 0.9]


def over_tls(backend: StormBackend, authority: Authority) -> Script:
    """The same backend behind a handshake."""
    context = authority.server(SECURE)

    async def script(wire: Wire) -> None:
        secure = TlsLink(wire.link, context)
        await secure.handshake()
        try:
            await backend(Wire(secure))
        finally:
            secure.close()  # with its goodbye

    return script


@define(eq=False)
class Lightning(trio.abc.Instrument):
    """Strikes an exchange, now and then, between two steps of any task."""

    stage: Stage
    chance: random.Random
    rate: float
    struck: int = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio.abc.Instrument."""
        if self.chance.random() < self.rate:
            exchanges = list(self.stage.gateway.runtime.in_flight)
            if exchanges:
                self.struck += 1
                self.chance.choice(exchanges).cancel(ClientGone(cause="lightning"))


@define
class Watchdog:
    """Fails when an exchange shows no sign of life for longer than any of its timers."""

    stage: Stage
    _signs: dict[int, tuple[object, float]] = field(factory=dict)

    async def run(self) -> None:
        """Look each second until cancelled."""
        while True:
            await trio.sleep(1)
            self.look()

    def look(self) -> None:
        """Look once."""
        now, before = trio.current_time(), self._signs
        self._signs = {}
        for exchange in self.stage.gateway.runtime.in_flight:
            sign = _sign_of(exchange)
            known, since = before.get(id(exchange), (sign, now))
            self._signs[id(exchange)] = (sign, since if known == sign else now)
            assert known != sign or now - since <= _LONGEST, f"hung: {exchange}"


def _sign_of(exchange: Exchange) -> object:
    """What changes while an exchange gets on, its end included."""
    body, writer, ending = exchange.body, exchange.writer, exchange.error is not None
    if exchange.conversation is not None:
        return exchange.conversation.up.moved, exchange.conversation.down.moved, ending
    return body.received, writer.sent, exchange.attempts, writer.committed, exchange.uploading, ending


@define
class Storm:
    """What happens on one stage."""

    stage: Stage
    chance: random.Random
    authority: Authority
    frozen: Frozen = field(factory=Frozen)
    backends: list[StormBackend] = field(factory=list)
    results: Counter[str] = field(factory=Counter)
    clients: list[StormClient] = field(factory=list)

    async def play(self, clients: int, rounds: int) -> None:
        """All of it, to the calm behind."""
        rate = self.chance.choice((0, 0.001)) if self.frozen.wild else 0
        lightning = Lightning(self.stage, random.Random(self.chance.random()), rate)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watchdog(self.stage).run)
            nursery.start_soon(self._change)
            trio.lowlevel.add_instrument(lightning)
            freezes = self.frozen.wild and self.chance.random() < 0.5
            with trio.move_on_after(self.chance.uniform(0.2, 20) if freezes else 10_000):
                await self._all_clients(clients, rounds, nursery)
            trio.lowlevel.remove_instrument(lightning)
            self.frozen.now = True
            await trio.sleep(_ALL_TIMERS)
            self._check_rest()
            nursery.cancel_scope.cancel()
        await self._check_calm()

    async def _all_clients(self, clients: int, rounds: int, lasting: trio.Nursery) -> None:
        """Let them run; who is frozen keeps its connections, in the nursery that lasts."""
        done = trio.Event()
        running = clients

        async def run(client: StormClient) -> None:
            nonlocal running
            await client.run(rounds)
            running -= 1
            if not running:
                done.set()

        for number in range(clients):
            client = StormClient(
                self._h2 if number % 2 else self._lane,
                _PATHS if self.frozen.wild else _PATHS[:-1],
                random.Random(self.chance.random()),
                self.frozen,
                self.results,
                self._in_flight,
            )
            self.clients.append(client)
            lasting.start_soon(run, client)
        await done.wait()

    def _in_flight(self) -> list[str]:
        return [exchange.hop.request_id.decode() for exchange in self.stage.gateway.runtime.in_flight]

    async def _lane(self) -> Caller:
        return await evolve(self.stage, door="lane").connect()

    async def _h2(self) -> Caller:
        return await evolve(self.stage, door="h2").connect()

    # ---- what befalls them

    def _config(self) -> GatewayConfig:
        """Another config: other endpoints, pools, targets, breakers; its server is the same."""
        users, others = _endpoints(self.chance, self.authority)
        server = self.stage.gateway.runtime.config.server
        text = config_text(users, others=others)
        return evolve(unprobed(parse_config(text, "storm.yaml", {}).require()), server=server)

    async def _change(self) -> None:
        """Something else, every now and then, until all is frozen."""
        deeds = [self._reload, self._reload_in_slices, self._sweep]
        deeds += [self._hang, self._refuse] if self.frozen.wild else []
        while True:
            await self.frozen.checkpoint(self.chance.expovariate(1))
            await self.chance.choice(deeds)()

    async def _reload(self) -> None:
        self.stage.gateway.runtime.apply(self._config())

    async def _reload_in_slices(self) -> None:
        runtime = self.stage.gateway.runtime
        async with runtime.changing:
            await runtime.apply_in_slices(self._config())

    async def _hang(self) -> None:
        """A host that swallows packets, for a while."""
        address = (self.chance.choice(HOSTS), 80)
        self.stage.network.hang.add(address)
        await trio.sleep(self.chance.random())
        self.stage.network.hang.discard(address)

    async def _refuse(self) -> None:
        """A backend that is down, for a while."""
        network, address = self.stage.network, (self.chance.choice(HOSTS), 80)
        listener = network.listeners.pop(address)
        await trio.sleep(self.chance.random())
        network.listeners[address] = listener

    async def _sweep(self) -> None:
        self.stage.gateway.runtime.live.sweep()

    # ---- what must be true

    def _check_rest(self) -> None:
        """Nobody moved for longer than all timers together: nothing is in flight, nothing is held."""
        gateway = self.stage.gateway
        assert not list(gateway.runtime.in_flight)
        assert self.stage.world.idle(), [up.pool for up in gateway.runtime.upstreams.values()]
        assert not gateway.server.lanes, gateway.server.lanes
        assert self.stage.open_upstream() == 0

    async def _check_calm(self) -> None:
        """With backends that answer all endpoints serve again; each answer seen has its access line."""
        for backend in self.backends:
            backend.calm, backend.frozen = True, Frozen()
        runtime = self.stage.gateway.runtime
        runtime.apply(self._config())
        await trio.sleep(5)
        calm = [
            StormClient(connect, (path,), self.chance, Frozen(), Counter(), self._in_flight)
            for connect in (self._lane, self._h2)
            for path in _PATHS
            if path != _PATHS[-1]
        ]
        for client in calm:
            await _ask_calmly(client)
        lines = await self.stage.lines()
        if not self.frozen.wild:
            assert not {line.reason for line in lines} & _TIMED_OUT
        ids = Counter(line.request_id.decode() for line in lines)
        assert max(ids.values()) == 1, ids.most_common(3)
        assert set().union(*(client.answered for client in self.clients)) <= ids.keys()


async def _ask_calmly(client: StormClient) -> None:
    caller = await client.connect()
    nonce = f"{client.chance.getrandbits(64):016x}"
    answer = await caller.fetch(
        "GET", f"{client.paths[0]}/{nonce}", f"X-Nonce: {nonce}", f"X-Request-ID: {nonce}"
    )
    assert answer.status in (200, 404), answer
    caller.vanish()


async def _storm(seed: int, clients: int, rounds: int, folder: Path, *, wild: bool) -> Counter[str]:
    chance, authority = random.Random(seed), Authority(folder)
    frozen, once = Frozen(wild=wild), set[bytes]()
    backends = [StormBackend(random.Random(chance.random()), frozen, once) for _ in HOSTS]
    scripts: list[Script] = [*backends[:2], over_tls(backends[2], authority)]
    assert authority.pem
    users, others = _endpoints(chance, authority)
    network = NarrowNetwork(chance=random.Random(chance.random())) if chance.random() < 0.5 else None
    door = Door("lane", authority if chance.random() < 0.4 else None)
    async with door.stage(scripts[0], users, server=_SERVER, others=others, network=network) as stage:
        for script, host in zip(scripts[1:], HOSTS[1:], strict=True):
            await stage.serve(script, host)
        storm = Storm(stage, chance, authority, frozen, backends)
        await storm.play(clients, rounds)
    return storm.results


def breeze(seed: int, clients: int = 12, rounds: int = 6) -> Counter[str]:
    """The same where nobody does wrong: a wake-up that was lost shows as a timer that ran out."""
    return storm(seed, clients, rounds, wild=False)


def storm(seed: int, clients: int = 12, rounds: int = 6, *, wild: bool = True) -> Counter[str]:
    """Play the storm of `seed`; how its exchanges ended for their clients. Raises what was wrong."""
    with _deterministic(seed), TemporaryDirectory() as folder:
        results: Counter[str] = in_virtual_time(
            lambda: _storm(seed, clients, rounds, Path(folder), wild=wild)
        )
    return results


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Trio schedules by chance, as it does for Hypothesis: its dice are ours for a while."""
    from trio._core import _run

    before, dice = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    try:
        yield
    except BaseException as error:
        error.add_note(f"storm {seed}")
        raise
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        _run._r.setstate(dice)
