"""Reading HTTP/1.1 messages from a link, for both ends of a soak: strict about what it expects, and small."""

from __future__ import annotations

from attrs import define

from trio_gateway.proxy.link import Link


class CutError(Exception):
    """The connection ended inside a message; `got` is what had come of the body."""

    def __init__(self, got: bytes = b"") -> None:
        super().__init__(f"cut after {len(got)} bytes")
        self.got = got


@define
class Reader:
    """Reads messages one after another."""

    link: Link
    buffer: bytes = b""

    async def _more(self, got: bytes = b"") -> None:
        try:
            data = await self.link.receive()
        except OSError:
            data = b""
        if not data:
            raise CutError(got)
        self.buffer += data

    async def head(self) -> tuple[list[bytes], dict[bytes, bytes]] | None:
        """The words of the first line, and the fields; None when nothing more comes."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            try:
                await self._more()
            except CutError:
                if self.buffer:
                    raise
                return None
        first, *lines = self.buffer[:end].split(b"\r\n")
        self.buffer = self.buffer[end + 4 :]
        fields = (line.partition(b": ") for line in lines)
        return first.split(b" ", 2), {name.lower(): value for name, _, value in fields}

    async def body(self, fields: dict[bytes, bytes]) -> bytes:
        """The body behind a head. Raises CutError."""
        if fields.get(b"transfer-encoding") == b"chunked":
            return await self._chunks()
        length = int(fields.get(b"content-length", b"0"))
        while len(self.buffer) < length:
            await self._more(self.buffer)
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data

    async def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                await self._more(b"".join(pieces))
            size = int(self.buffer[:end], 16)
            while len(self.buffer) < end + size + 4:
                await self._more(b"".join(pieces) + self.buffer[end + 2 : end + 2 + size])
            pieces.append(self.buffer[end + 2 : end + 2 + size])
            self.buffer = self.buffer[end + size + 4 :]
            if not size:
                return b"".join(pieces)
