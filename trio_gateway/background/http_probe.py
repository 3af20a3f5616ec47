"""The HTTP probe: one request through httpx, on a connection that it brings along.

Of httpx that takes its client and the HTTP/1.1 half of its transport, without its pool: nothing is to be
kept for another time, and the pool costs the more the more is idle in it. The client reads no environment
and gets to see no header of a reply, so that it has no cookie to keep, no coding to undo, and no redirect
to work out: all of them are answers, whatever they say. What is the same each time is made once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Any

import httpcore
import httpx
from attrs import define, field, frozen

from trio_gateway.background.dial import MAX_ANSWER, Answer, Dial, Enough, ProbeFailed, resource_of, target_of
from trio_gateway.domain.health import Check
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.upstream import Target

_FIELDS = [
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"close"),
    (b"User-Agent", b"trio-gateway"),
]
_NO_BODY = httpx.ByteStream(b"")


class HttpProbe:
    """Alive is what answers with an accepted status.

    With a path the reply has to come whole, or as much of it as is read. Without one the head is enough:
    nobody knows what stands at the url, and it may be a stream without end.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._client = httpx.AsyncClient(transport=_OneConnection(), trust_env=False, timeout=None)  # noqa: S113

    async def __call__(self, check: Check) -> None:
        """See `probes`."""
        target = target_of(check.url)
        link = await self._dial(check, target)
        try:
            await self._ask(check, target, link)
        except Enough:
            raise ProbeFailed(f"no whole head within {MAX_ANSWER} bytes") from None
        except httpcore.ProtocolError as error:
            raise ProbeFailed(f"no valid HTTP: {error}") from None
        finally:
            link.close()

    async def _ask(self, check: Check, target: Target, link: Link) -> None:
        method = check.rules.method
        url, headers = _head(method, target)
        extensions = {"target": resource_of(target), "wire": _Wire(link)}
        request = httpx.Request(method, url, headers=headers, stream=_NO_BODY, extensions=extensions)
        async with aclosing(await self._client.send(request, stream=True)) as reply:
            if not check.accepts(reply.status_code):
                raise ProbeFailed(f"status {reply.status_code}")
            if check.path is not None:
                with suppress(Enough):
                    async for _ in reply.aiter_raw():
                        pass


@lru_cache(4096)
def _head(method: str, target: Target) -> tuple[httpx.URL, httpx.Headers]:
    """The origin that is asked, and the fields that it gets."""
    origin = httpx.URL(f"{'https' if target.tls else 'http'}://{target.authority.decode()}/")
    fields = [(b"Host", target.authority), *_FIELDS]
    if method in ("POST", "PUT", "PATCH"):
        fields.append((b"Content-Length", b"0"))
    return origin, httpx.Headers(fields)


class _OneConnection(httpx.AsyncBaseTransport):
    """Sends each request on the wire, and for the target, that stand in its extensions."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. OSError and httpcore.ProtocolError come out as they are."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.extensions["target"],
        )
        connection = httpcore.AsyncHTTP11Connection(url.origin, request.extensions["wire"])
        reply = await connection.handle_async_request(
            httpcore.Request(request.method, url, headers=request.headers.raw, content=request.stream)
        )
        return httpx.Response(reply.status, stream=_Body(reply.stream))


@frozen(eq=False)
class _Body(httpx.AsyncByteStream):
    """A body of httpcore's as httpx wants it."""

    _stream: Any

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        """Close the connection, unless the reply came whole."""
        await self._stream.aclose()


@define(eq=False)
class _Wire(httpcore.AsyncNetworkStream):
    """A link as httpcore's stream. Its timeouts are not asked for."""

    _link: Link
    _answer: Answer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._answer = Answer(self._link)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """See Answer."""
        return await self._answer.receive(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of it. Raises httpcore.WriteError: who stopped reading may have answered before."""
        try:
            if buffer:  # an empty body is written, too
                await self._link.send(buffer)
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close at once."""
        self._link.close()
