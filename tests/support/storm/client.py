"""The clients of a storm: they pipeline, stall, dawdle, leave, and check every byte that they get."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

import trio
from attrs import define, field
from h2.exceptions import ProtocolError

from tests.support.client import Answer
from tests.support.doors import Call, Caller, Cut, LaneCaller
from tests.support.storm.dice import PAUSES, Frozen, filled
from tests.support.storm.websocket import opening, talk
from tests.support.websocket import Peer
from trio_gateway.proxy.link import Link

_OURS = (404, 408, 502, 503, 504)  # 404 while a reload has taken an endpoint away


_NOTICED = 0.1  # seconds
_AT_ONCE = 4000  # bytes of a body that go with the head
STALL = 30.0  # seconds: longer than every timer of the gateway's


@define
class Asked:
    """One request of a client."""

    nonce: str
    method: str
    call: Call
    upload: list[bytes]  # what is still to be sent of its body
    unbounded: bool  # which has no length


@define
class StormClient:
    """Asks for this and that over connections from `connect`."""

    connect: Callable[[], Awaitable[Caller]]
    paths: tuple[str, ...]
    chance: random.Random
    frozen: Frozen
    results: Counter[str]
    in_flight: Callable[[], Collection[str]]  # the nonces of exchanges that go on
    answered: set[str] = field(factory=set)

    async def run(self, rounds: int) -> None:
        """Some rounds, on connections that are kept while they last."""
        caller: Caller | None = None
        for _ in range(rounds):
            caller = caller or await self.connect()
            going = False
            with contextlib.suppress(Cut, OSError):
                going = await self._round(caller)
            if not going:
                caller.reset() if self.chance.random() < 0.3 else caller.vanish()
                caller = None
            await self.frozen.checkpoint(self.chance.choice(PAUSES))
            if self.chance.random() < 0.2:
                await self._converse()
        await self.frozen.checkpoint()

    async def _converse(self) -> None:
        """A WebSocket on a connection of its own, whatever becomes of it."""
        caller = await self.connect()
        if isinstance(caller, LaneCaller):
            nonce = f"{self.chance.getrandbits(64):016x}"
            self.results["asked"] += 1
            with contextlib.suppress(OSError):
                await self._open_websocket(caller.link, nonce)
        caller.vanish()

    async def _open_websocket(self, link: Link, nonce: str) -> None:
        await link.send(opening(f"{self.chance.choice(self.paths)}/{nonce}", nonce))
        received = b""
        while b"\r\n\r\n" not in received:
            if not (data := await link.receive()):
                return
            received += data
        self.answered.add(nonce)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert f"X-Request-ID: {nonce}".lower().encode() in head.lower()
        self.results[f"websocket {head[9:12].decode()}"] += 1
        if head[9:12] == b"101":
            assert b"X-Nonce: " + nonce.encode() in head
            peer = Peer(link, is_client=True)
            peer.reader.feed(rest)
            await talk(peer, nonce.encode(), self.chance, self.frozen, STALL)

    async def _round(self, caller: Caller) -> bool:
        """One request, or three at once; whether the connection goes on."""
        asked: list[Asked] = []
        # Over HTTP/2 several could wait for each other: for the one place in a pool, and for their reader.
        together = self.frozen.wild or isinstance(caller, LaneCaller)
        for _ in range(self.chance.choice((1, 1, 1, 3)) if together else 1):
            asked.append(await self._ask(caller, streams=self.frozen.wild or not asked))
            if asked[-1].upload:
                break  # nothing can follow it yet
        for each in asked:
            if not await self._finish(each):
                return False
        return True

    async def _ask(self, caller: Caller, *, streams: bool) -> Asked:
        """Ask for something; what `streams` may keep the others waiting until its client comes to it."""
        method = self.chance.choice(("GET", "GET", "POST", "PUT", "HEAD"))
        nonce = f"{self.chance.getrandbits(64):016x}"
        target = f"{self.chance.choice(self.paths)}/{nonce}"
        fields = [f"X-Nonce: {nonce}", f"X-Request-ID: {nonce}"]
        upload: list[bytes] = []
        body, how = None, {}
        if method in ("POST", "PUT"):
            body = filled(nonce.encode(), self.chance.choice((0, 10, 4000, 200_000, 700_000)))
            body = body if streams else body[:_AT_ONCE]
            if streams and (len(body) > _AT_ONCE or self.chance.random() < 0.5):
                upload = _in_pieces(body, self.chance.choice((1, 3, 6)))
                how = self.chance.choice(({"stream": True}, {"length": len(body)})) if body else {}
            if how:
                body = None
                if self.chance.random() < 0.3:
                    fields.append("Expect: 100-continue")
            else:
                upload = []
        self.results["asked"] += 1
        call = await caller.open(method, target, *fields, body=body, **how)  # type: ignore[arg-type]
        return Asked(nonce, method, call, upload, unbounded="stream" in how)

    async def _finish(self, asked: Asked) -> bool:
        """Send what is left of a request and read its reply; whether its connection goes on."""
        async with trio.open_nursery() as nursery:
            if asked.upload:
                nursery.start_soon(self._upload, asked)
            keep = False
            with contextlib.suppress(Cut):
                keep = await self._read(asked)
            nursery.cancel_scope.cancel()
        return keep

    async def _upload(self, asked: Asked) -> None:
        with contextlib.suppress(Cut, OSError, ProtocolError):  # nobody may want it any more
            for piece in asked.upload:
                await self.frozen.checkpoint(self.chance.choice(PAUSES))
                if self.chance.random() < 0.03:
                    await self.frozen.checkpoint(STALL)
                await asked.call.send(piece)
            if asked.unbounded:
                await asked.call.end()

    async def _read(self, asked: Asked) -> bool:
        dice = self.chance.random()
        if dice < 0.12:  # it does not wait for its reply
            await self.frozen.checkpoint(self.chance.choice(PAUSES))
            await asked.call.leave()
            self.results["left"] += 1
            await trio.sleep(_NOTICED)
            assert asked.nonce not in self.in_flight(), "its departure was not noticed"
            return False
        try:
            answer = await asked.call.head()
            whole = await self._read_body(asked, answer)
        except Cut:
            self.results["cut"] += 1
            raise
        self.results[str(answer.status)] += 1
        return whole and answer.values("connection") != ["close"]

    async def _read_body(self, asked: Asked, answer: Answer) -> bool:
        """All of the body, at some pace; False when the client left in the middle."""
        self.answered.add(asked.nonce)
        assert answer.values("x-request-id") == [asked.nonce]
        assert {value for _, fields in asked.call.hints for _, value in fields} <= {asked.nonce.encode()}
        ours = not answer.values("x-nonce")
        assert answer.values("x-nonce") in ([], [asked.nonce])
        assert answer.status in _OURS if ours else answer.status == 200, (answer, asked)
        dawdles, leaves = self.chance.random() < 0.2, self.chance.random() < 0.05
        body = b""
        while (piece := await asked.call.piece()) is not None:
            body += piece
            assert ours or body == filled(asked.nonce.encode(), len(body))
            if leaves:
                await asked.call.leave()
                return False
            if dawdles:
                await self.frozen.checkpoint(STALL if self.chance.random() < 0.1 else 0)
                await self.frozen.checkpoint(self.chance.choice(PAUSES))
        if asked.method != "HEAD":
            assert not ours or json.loads(body)["request_id"] == asked.nonce
            assert answer.values("x-size") in ([], [str(len(body))])
        return True


def _in_pieces(body: bytes, count: int) -> list[bytes]:
    step = len(body) // count + 1
    return [body[at : at + step] for at in range(0, len(body), step)]
