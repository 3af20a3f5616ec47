"""A raw HTTP/1.1 client: what it sends is what stands in the test, and h11 reads the replies."""

from __future__ import annotations

import h11
from attrs import define, field

from trio_gateway.proxy.link import Link


@define
class Answer:
    """A reply as an independent parser reads it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    interim: list[int] = field(factory=list)
    trailers: list[tuple[bytes, bytes]] = field(factory=list)
    reason: bytes = b""

    def values(self, name: str) -> list[str]:
        """All values of a field, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def value(self, name: str) -> str:
        """The one value of a field that must be there once."""
        (only,) = self.values(name)
        return only


class RawClient:
    """One client connection over a link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._buffer = b""
        self._parser: h11.Connection | None = None

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        await self.link.send(data)

    async def get(self, target: str, *headers: str, method: str = "GET") -> Answer:
        """A request without a body, and its reply."""
        await self.send(request(target, *headers, method=method))
        return await self.answer(method)

    async def head(self, method: str = "GET") -> Answer:
        """The next final reply's head; interim ones are noted."""
        self._parser = h11.Connection(h11.CLIENT)
        self._parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        self._parser.send(h11.EndOfMessage())
        if self._buffer:
            self._parser.receive_data(self._buffer)
            self._buffer = b""
        interim = []
        while isinstance(event := await self._event(), h11.InformationalResponse):
            interim.append(event.status_code)
        assert isinstance(event, h11.Response), event
        return Answer(
            event.status_code, list(event.headers.raw_items()), interim=interim, reason=bytes(event.reason)
        )

    async def piece(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises h11.RemoteProtocolError when it is cut."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        assert self._parser is not None
        self._trailers = list(event.headers.raw_items())
        self._buffer, _ = self._parser.trailing_data
        return None

    async def answer(self, method: str = "GET") -> Answer:
        """The next whole reply."""
        answer = await self.head(method)
        while (piece := await self.piece()) is not None:
            answer.body += piece
        answer.trailers = self._trailers
        return answer

    async def _event(self) -> h11.Event:
        assert self._parser is not None
        while True:
            event = self._parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._parser.receive_data(await self.link.receive())

    async def at_end(self) -> bool:
        """Wait for the connection's end; whether nothing came before it."""
        try:
            return not (self._buffer or await self.link.receive())
        except OSError:
            return True


def request(
    target: str, *headers: str, method: str = "GET", body: bytes = b"", version: str = "1.1"
) -> bytes:
    """A request's bytes with a Host of its own, and a Content-Length when it has a body."""
    lines = [f"{method} {target} HTTP/{version}", *headers]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.insert(1, "Host: gateway.example")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
