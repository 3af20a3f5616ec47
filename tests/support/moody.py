"""A backend whose mood a test changes."""

from __future__ import annotations

from attrs import define, field

from tests.support.stage import OK
from tests.support.upstream import Received, Wire


def status(code: int) -> bytes:
    """A short reply with this status."""
    return b"HTTP/1.1 %d \r\nContent-Length: 1\r\n\r\nx" % code


@define
class Moody:
    """Answers each request with `reply`; closes without one when it is empty, is silent when it is None."""

    reply: bytes | None = OK
    seen: list[Received] = field(factory=list)

    async def __call__(self, wire: Wire) -> None:
        """See Script."""
        while True:
            self.seen.append(await wire.request())
            if not self.reply:
                break
            await wire.send(self.reply)
        if self.reply is None:
            await wire.closed()
