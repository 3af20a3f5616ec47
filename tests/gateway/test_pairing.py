"""No reply ever meets another request, whatever clients and backends do to each other.

Each request carries a nonce in its target, a field, its id and its body; whatever answers it must carry
the same. Backends answer late, early, in every framing, say too much, too little, or nothing, and close
when it hurts; clients leave in the middle. The soak does the same a hundred thousand times.
"""

from __future__ import annotations

import json
import random
from collections import Counter

import trio
from attrs import define, field

from tests.support.client import Answer
from tests.support.doors import Call, Caller, Cut
from tests.support.faults import fault
from tests.support.stage import USERS, Door, Stage
from tests.support.upstream import Received, Wire

CLIENTS = 64
ROUNDS = 20  # of each client, at each door
EVIL = b"HTTP/1.1 200 OK\r\nX-Nonce: evil\r\nContent-Length: 4\r\n\r\nevil"
MOODS = {  # how often
    "plain": 60, "chunked": 20, "slow": 10, "part": 6, "hint": 4, "bare": 4, "early": 4, "close": 6,
    "stale": 6, "extra": 3, "second": 3, "cut": 3, "silent": 2, "garbage": 2,
}  # fmt: skip
LAST = {"early", "close", "stale", "extra", "second", "cut", "silent", "garbage"}  # the connection ends


def body_of(nonce: bytes) -> bytes:
    """Large enough, now and then, not to fit into one read."""
    return nonce * (1 + int(nonce, 16) % 97 * (40 if nonce.endswith(b"7") else 1))


@define
class Backend:
    """Echoes nonces, in a mood drawn for each request."""

    chance: random.Random
    moods: Counter[str] = field(factory=Counter)

    async def __call__(self, wire: Wire) -> None:
        """See Script."""
        mood = ""
        while mood not in LAST:
            head = await wire.head()
            (mood,) = self.chance.choices([*MOODS], [*MOODS.values()])
            self.moods[mood] += 1
            if mood != "early":
                await wire.body(head)
                assert head.body in (b"", body_of(nonce_of(head)))
            for step in self.steps(mood, nonce_of(head), bare=head.method == b"HEAD"):
                if isinstance(step, bytes):
                    await wire.send(step)
                else:
                    await trio.sleep(step)

    def steps(self, mood: str, nonce: bytes, *, bare: bool) -> list[bytes | float]:
        """What to send, and how long to wait in between."""
        body = b"" if bare else body_of(nonce)
        head = b"HTTP/1.1 200 OK\r\nX-Nonce: %b\r\n" % nonce
        whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        pause = self.chance.random()
        half = len(body) // 2
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece]
        steps: dict[str, list[bytes | float]] = {
            "chunked": [head + b"Transfer-Encoding: chunked\r\n\r\n", pause / 100, *chunks, b"0\r\n\r\n"],
            "slow": [pause, whole],
            "part": [whole[:-3], pause / 10, whole[-3:]],
            "hint": [b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % nonce, pause / 100, whole],
            "bare": [b"HTTP/1.1 204 No Content\r\nX-Nonce: %b\r\n\r\n" % nonce],
            "stale": [],  # it takes the request with it
            "extra": [whole + EVIL],
            "second": [whole, EVIL],
            "cut": [whole[: -half or None]],
            "silent": [5 * pause],
            "garbage": [b"X-Nonce: evil\r\n\r\n"],
        }
        if bare and mood == "chunked":
            mood = "plain"
        return steps.get(mood, [whole])


def nonce_of(received: Received) -> bytes:
    """The one nonce of a request: its places agree."""
    (nonce,) = received.values(b"x-nonce")
    assert received.target.rpartition(b"/")[2] == nonce
    assert received.values(b"x-request-id") == [nonce]
    return nonce


@define
class Client:
    """Sends one request after the other over a connection, and judges what comes back."""

    stage: Stage
    chance: random.Random
    results: Counter[str]

    async def run(self) -> None:
        """Some rounds of requests, over new connections where the old one ended."""
        going = False
        for _ in range(ROUNDS):
            if not going:
                caller = await self.stage.connect()
            try:
                going = await self.round(caller)
            except Cut:
                self.results["cut"] += 1
                going = False
            if not going:
                caller.vanish()

    async def round(self, caller: Caller) -> bool:
        """One request, or three at once: pipelined, or as streams that are read in any order."""
        asked = [await self.ask(caller) for _ in range(self.chance.choice([1, 1, 1, 3]))]
        together = self.stage.door == "h2"
        if together:
            self.chance.shuffle(asked)
        for name, method, call in asked:
            if self.chance.random() < 0.1:
                await trio.sleep(self.chance.random() / 20)
                await call.leave()
                self.results["left"] += 1
                if not together:
                    return False
                continue
            answer = await call.head()
            await self.judge(call, answer, name, bare=method == "HEAD")
            self.results[str(answer.status)] += 1
            if answer.values("connection") == ["close"]:
                return False
        return True

    async def ask(self, caller: Caller) -> tuple[str, str, Call]:
        """Send a request with a nonce wherever one has room."""
        method = self.chance.choice(["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD"])
        name = f"{self.chance.getrandbits(64):x}"
        body = body_of(name.encode()) if method in ("POST", "PUT") else None
        fields = (f"X-Nonce: {name}", f"X-Request-ID: {name}")
        self.results["sent"] += 1
        return name, method, await caller.open(method, f"{USERS}/{name}", *fields, body=body)

    async def judge(self, call: Call, answer: Answer, name: str, *, bare: bool) -> None:
        """Everything that came must be ours."""
        assert answer.values("x-request-id") == [name]
        assert all(dict(fields).keys() <= {b"link", b"Link"} for _, fields in call.hints)
        assert all(value == f"</{name}>".encode() for _, fields in call.hints for _, value in fields)
        ours = answer.status >= 500
        assert answer.values("x-nonce") == ([] if ours else [name])
        expected = body_of(name.encode()) if answer.status == 200 and not bare else b""
        body = b""
        while (piece := await call.piece()) is not None:
            body += piece
            assert ours or expected.startswith(body)
        assert ours or body == expected
        assert not ours or bare or json.loads(body)["request_id"] == name


@fault("Z1")
async def test_no_reply_meets_another_request(door: Door) -> None:
    """Thousands of exchanges among faults and departures: every answer carries its request's nonce."""
    chance, results = random.Random(2026), Counter[str]()
    backend = Backend(chance)
    config = {"timeout": 2, "pool": {"max_connections": 40}, "circuit_breaker": {"failure_threshold": 10**6}}
    async with door.stage(backend, config) as stage:
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(Client(stage, chance, results).run)
        lines = await stage.lines()
        assert CLIENTS * ROUNDS <= len(lines) <= results["sent"]
        assert results["200"] > results["sent"] / 2
        assert min(results[each] for each in ("204", "502", "504", "cut", "left")) > 0, results
        assert backend.moods.keys() == MOODS.keys()
        assert stage.gateway.runtime.metrics.handler_errors == 0
