"""The three sample backends: users echoes, events streams, flaky misbehaves when it is told to."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import trio
from attrs import define
from trio_websocket import ConnectionClosed, wrap_server_stream

from trio_gateway.demo.backend import Call, number, texts
from trio_gateway.server.link_stream import LinkStream
from trio_gateway.wire.handshake import asks_for_websocket, read_offer


@define(eq=False)
class Users:
    """Answers with what it received; a body is digested as it comes, and never kept.

    A WebSocket's messages come back as they are.
    """

    received: int = 0  # bytes of bodies so far

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        if asks_for_websocket(call.request):
            return await _echo(call)
        digest = hashlib.sha256()
        size = 0
        while data := await call.body.read():
            digest.update(data)
            size += len(data)
            self.received += len(data)
            await trio.lowlevel.checkpoint()
        request = call.request
        return await call.json(
            {
                "backend": "users",
                "method": request.method.decode(),
                "target": request.target.decode(),
                "headers": texts(request.headers),
                "body": {"bytes": size, "sha256": digest.hexdigest()},
            }
        )


async def _echo(call: Call) -> None:
    """Give a WebSocket's messages back until its client says goodbye. Raises ClientError."""
    read_offer(call.request)
    try:
        async with trio.open_nursery() as nursery:
            stream = LinkStream(call.link, call.received)
            request = await wrap_server_stream(nursery, stream)  # type: ignore[arg-type]  # any stream will do
            peer = await request.accept()
            with suppress(ConnectionClosed):
                while True:
                    await peer.send_message(await peer.get_message())
    finally:
        call.writer.abort()


@define(eq=False)
class Events:
    """Server-sent events (WHATWG HTML 9.2): `?count=10` of them, one `?every=1` second."""

    sent: int = 0
    streams: int = 0  # that are open

    async def __call__(self, call: Call) -> None:
        """Stream until the count is reached or the client leaves."""
        count, every = int(number(call, "count", 10)), number(call, "every", 1.0)
        call.start(200, (b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-store"))
        self.streams += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_gone, call, nursery.cancel_scope)
                await self._stream(call, count, every)
                nursery.cancel_scope.cancel()
        finally:
            self.streams -= 1

    async def _stream(self, call: Call, count: int, every: float) -> None:
        await call.writer.flush()
        for index in range(1, count + 1):
            await trio.sleep(every)
            self.sent += 1
            content = json.dumps({"backend": "events", "event": index, "at": trio.current_time()})
            await call.writer.write(f"id: {index}\ndata: {content}\n\n".encode())
        await call.writer.finish(b"", [])

    async def _until_gone(self, call: Call, stream: trio.CancelScope) -> None:
        await call.gone()
        call.writer.abort()
        stream.cancel()


@define(eq=False)
class Flaky:
    """Answers, fails, dawdles or hangs.

    POST `/break` makes it answer 503 from then on and POST `/mend` ends that; `/slow?seconds=3` takes its
    time; `/hang` never answers.
    """

    failing: bool = False
    requests: int = 0  # that were to be answered, well or not

    async def __call__(self, call: Call) -> None:
        """Answer one request, or don't."""
        switch = {"/break": True, "/mend": False}.get(call.path)
        if switch is not None and call.request.method == b"POST":
            self.failing = switch
            return await call.json({"backend": "flaky", "failing": switch})
        self.requests += 1
        if call.path == "/hang":
            return await call.gone()
        if call.path == "/slow":
            await trio.sleep(number(call, "seconds", 3.0))
        if self.failing:
            return await call.json({"backend": "flaky", "error": "broken on purpose"}, status=503)
        return await call.json({"backend": "flaky", "message": "all is well"})
