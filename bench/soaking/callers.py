"""The clients of a soak, through both doors: they check every byte that they get, and some leave early.

`Tally` counts how exchanges ended. What may happen is counted by name; what may not, goes to `wrong`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from bench.soaking.messages import CutError, Reader
from bench.soaking.talk import CUT, Talk
from tests.e2e.started import queued
from tests.support.h2client import H2Client, open_h2
from trio_gateway.proxy.link import Link

LATE = 25.0  # seconds: longer than every timer of the gateway's
_PATIENCE = 30.0
STALE_UPLOAD = "502 for an upload on a connection that the backend had closed"


@define
class Tally:
    """How exchanges ended, over all clients. `answered` are the numbers whose reply was seen.

    `waiting` has those that somebody waits for, since when and on which link, the eldest first.
    """

    budget: int
    begun: int = 0
    ends: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    hung: list[int] = field(factory=list)
    waiting: dict[int, tuple[float, Link]] = field(factory=dict)
    strange: dict[int, str] = field(factory=dict)  # got what no request had asked for
    answered: bytearray = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.answered = bytearray(self.budget + 1)

    def talks(self, rng: random.Random) -> Iterator[Talk]:
        """Talks until all clients together have begun `budget`."""
        while self.begun < self.budget:
            self.begun += 1
            yield Talk.of(self.begun, rng)

    def late(self) -> dict[int, Link]:
        """The exchanges that nothing may take so long."""
        eldest = time.monotonic() - LATE
        return {number: link for number, (began, link) in self.waiting.items() if began < eldest}

    def left(self) -> None:
        """The client went away."""
        self.ends["left by the client"] += 1

    def judge(self, talk: Talk, status: int, number: bytes | None, body: bytes, *, cut: bool) -> None:
        """Compare what came with what may come."""
        self.answered[talk.number] = 1
        if number == b"0":
            self.strange[talk.number] = f"{talk} got {body!r}"
        elif status == 200 and number != b"%d" % talk.number:
            self.wrong.append(f"{talk} got the head of {number!r}")
        elif status == 200 and not talk.reply_body().startswith(body):
            self.wrong.append(f"{talk} got the body {body[:60]!r}")
        elif status == 200:
            self._judge_end(talk, body, cut=cut)
        elif status == 502 and talk.deed in ("reset", *CUT):
            self.ends["502 for a reset, or a cut before the first byte"] += 1
        elif status == 502 and talk.method == b"POST":
            self.ends[STALE_UPLOAD] += 1
        else:
            self.wrong.append(f"{talk} got {status}: {body[:300]!r}")

    def _judge_end(self, talk: Talk, body: bytes, *, cut: bool) -> None:
        whole = body == talk.reply_body()
        if cut and talk.deed in CUT:
            self.ends["cut, and shown as cut"] += 1
        elif cut or not whole or (talk.deed in CUT and body):
            self.wrong.append(f"{talk} was {'cut' if cut else 'whole'} with {len(body)} bytes")
        else:
            self.ends["whole"] += 1


@define
class Caller:
    """One client: its connections come from `connect`, its dice from `rng`; it rests before each talk."""

    connect: Callable[[], object]
    tally: Tally
    rng: random.Random
    pause: Callable[[], float] = lambda: 0.0

    @contextmanager
    def _patience(self, talk: Talk, link: Link) -> Iterator[None]:
        self.tally.waiting[talk.number] = time.monotonic(), link
        try:
            with trio.move_on_after(_PATIENCE) as scope:
                yield
        finally:
            del self.tally.waiting[talk.number]
        if scope.cancelled_caught:
            self.tally.hung.append(talk.number)
            self.tally.wrong.append(f"{talk} hung at {time.time():.1f}: {place(link)}")

    # ---- HTTP/1.1

    async def over_h1(self) -> None:
        """Exchanges on connections that are kept while they last."""
        reader: Reader | None = None
        for talk in self.tally.talks(self.rng):
            await trio.sleep(self.pause())
            if reader is None:
                reader = Reader(await self.connect())  # type: ignore[misc]
            keep = False
            with self._patience(talk, reader.link):
                keep = await self._exchange(reader, talk)
            if not keep:
                reader.link.close()
                reader = None
        if reader is not None:
            reader.link.close()

    async def _exchange(self, reader: Reader, talk: Talk) -> bool:
        dice = self.rng.random()
        if dice < 0.08:
            await self._leave(reader.link, talk)
            return False
        if dice < 0.16:
            return await self._pipelined(reader, talk)
        try:
            async with trio.open_nursery() as nursery:
                if talk.upload > 60_000:
                    nursery.start_soon(_send, reader.link, talk.bytes())
                else:
                    await reader.link.send(talk.bytes())
                keep = await self._reply(reader, talk)
                nursery.cancel_scope.cancel()
        except* OSError:
            keep = False
            self.tally.wrong.append(f"{talk}: the gateway closed before it was sent")
        return keep

    async def _leave(self, link: Link, talk: Talk) -> None:
        data = talk.bytes()
        piece = data[: self.rng.choice((len(data), len(data) // 2))]
        if len(link.send_nowait(piece)) < len(piece):
            await trio.sleep(self.rng.choice((0, 0.001, 0.005)))
        if self.rng.random() < 0.5:
            link.abort()
        self.tally.left()

    async def _pipelined(self, reader: Reader, first: Talk) -> bool:
        """Three requests in one piece; behind the first reply that ends the connection none is due."""
        more = (talk for talk in self.tally.talks(self.rng))
        talks = [first, *(next(more, first) for _ in range(2))]
        talks = [talk for at, talk in enumerate(talks) if at == 0 or talk is not first]
        await _send(reader.link, b"".join(talk.bytes() for talk in talks if talk.upload < 60_000))
        sent = [talk for talk in talks if talk.upload < 60_000]
        for at, talk in enumerate(sent):
            if not await self._reply(reader, talk):
                self.tally.ends["pipelined behind a close"] += len(sent) - at - 1
                return False
        return len(sent) == len(talks)

    async def _reply(self, reader: Reader, talk: Talk) -> bool:
        """Read and judge one reply; whether the connection goes on."""
        try:
            found = await reader.head()
        except CutError:
            found = None
        if found is None:
            self.tally.wrong.append(f"{talk} got no reply")
            return False
        (_, status, _), fields = found
        body, cut = b"", False
        try:
            body = await reader.body(fields)
        except CutError as error:
            body, cut = error.got, True
        self.tally.judge(talk, int(status), fields.get(b"x-number"), body, cut=cut)
        return not cut and fields.get(b"connection") != b"close"

    # ---- HTTP/2

    async def over_h2(self, streams: int) -> None:
        """Exchanges in so many streams at once on one connection."""
        async with open_h2(await self.connect()) as client, trio.open_nursery() as nursery:  # type: ignore[misc]
            for _ in range(streams):
                nursery.start_soon(self._streams, client)

    async def _streams(self, client: H2Client) -> None:
        for talk in self.tally.talks(self.rng):
            await trio.sleep(self.pause())
            with self._patience(talk, client.link):
                try:
                    await self._stream(client, talk)
                except* OSError:
                    self.tally.wrong.append(f"{talk}: the connection ended, {client.goaway}")
            if client.ended:
                return

    async def _stream(self, client: H2Client, talk: Talk) -> None:
        stream = await client.request(talk.method, talk.target, talk.fields(), end=not talk.upload)
        leaving = self.rng.random() < 0.1
        reply = client.replies[stream]
        async with trio.open_nursery() as nursery:
            if talk.upload:
                nursery.start_soon(_upload, client, stream, talk, leaving)
            if leaving:
                await trio.sleep(self.rng.choice((0, 0.001, 0.005)))
            else:
                await client.reply(stream)
            nursery.cancel_scope.cancel()
        if leaving and not reply.done:
            await client.reset(stream)
            self.tally.left()
        elif leaving:
            self.tally.left()
        else:
            cut = reply.reset not in (None, 0)  # NO_ERROR behind a whole reply stops an upload only
            self.tally.judge(talk, reply.status, reply.header(b"x-number"), bytes(reply.body), cut=cut)
        del client.replies[stream]
        client.events.clear()


def place(link: Link) -> str:
    """The connection's two queues, and its port."""
    ports = link.local[1], link.peer[1]
    try:
        return f"port {ports[0]}, (unsent, unread) {queued(*ports)}, the gateway's {queued(*ports[::-1])}"
    except LookupError:
        return f"port {ports[0]}, closed"


async def _send(link: Link, data: bytes) -> None:
    try:
        await link.send(data)
    except OSError:
        return  # it may have answered before it took everything


async def _upload(client: H2Client, stream: int, talk: Talk, half: bool) -> None:
    body = talk.body()
    body = body[: len(body) // 2] if half else body
    try:
        await client.send(stream, body, end=not half)
    except Exception:  # the stream is over already
        return
