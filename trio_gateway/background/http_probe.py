"""The HTTP probe: one request through httpx, on a connection that it brings along.

Of httpx that takes its client, over a transport of ours: nothing is to be kept for another time, what
the request path would take for a broken reply is none to the probe either, and a probe costs the less. The
client reads no environment and gets to see no header of a reply, so that it has no cookie to keep, no coding
to undo, and no redirect to work out: all of them are answers, whatever they say. What is the same each time
is made once.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from functools import lru_cache

import httpx
from attrs import define

from trio_gateway.background.dial import MAX_ANSWER, Answer, Dial, Enough, ProbeFailed, resource_of, target_of
from trio_gateway.domain.health import Check
from trio_gateway.errors import BadUpstreamReply
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.upstream import Target
from trio_gateway.wire.body import BodyDecoder, MalformedBody, decoder_of
from trio_gateway.wire.response import ResponseHead, find_response_head, parse_response
from trio_gateway.wire.serialise import request_head

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
        except BadUpstreamReply as error:
            raise ProbeFailed(f"no valid HTTP: {error.cause}") from None
        except MalformedBody as error:
            raise ProbeFailed(f"no valid HTTP: {error}") from None
        finally:
            link.close()

    async def _ask(self, check: Check, target: Target, link: Link) -> None:
        method = check.rules.method
        url, headers = _head(method, target)
        extensions = {"target": resource_of(target), "link": link}
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
    """Sends each request on the link, and for the target, that stand in its extensions."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. OSError, Enough, BadUpstreamReply and MalformedBody come out as they are."""
        link, target = request.extensions["link"], request.extensions["target"]
        method = request.method.encode()
        with suppress(OSError):  # who stopped reading may have answered before
            await link.send(request_head(method, target, request.headers.raw))
        answer = Answer(link)
        head, rest = await _read_head(answer, method)
        return httpx.Response(head.status, stream=_Body(answer, decoder_of(head), rest))


async def _read_head(answer: Answer, method: bytes) -> tuple[ResponseHead, bytes]:
    """The final reply's head, and what came behind it."""
    data, searched = b"", 0
    while True:
        end = find_response_head(data, searched)
        if end < 0:
            searched = len(data)
            more = await answer.receive(MAX_ANSWER)
            if not more:
                raise BadUpstreamReply(cause="the connection ended before a whole head")
            data += more
            continue
        head, data, searched = parse_response(data[:end], method), data[end:], 0
        if head.status == 101:
            raise BadUpstreamReply(cause="another protocol, which nobody asked for")
        if head.status >= 200:
            return head, data


@define(eq=False)
class _Body(httpx.AsyncByteStream):
    """A reply's body as httpx wants it."""

    _answer: Answer
    _decoder: BodyDecoder | None
    _rest: bytes

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        decoder = self._decoder
        if decoder is None or decoder.done:
            raise StopAsyncIteration
        data, self._rest = self._rest or await self._answer.receive(MAX_ANSWER), b""
        if data:
            return decoder.feed(data)
        if not decoder.end():
            raise BadUpstreamReply(cause="the body ended early")
        raise StopAsyncIteration
