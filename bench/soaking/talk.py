"""One exchange of a soak: what the client asks, what the backend shall do, what the client may get.

Each request has a number. It stands in the target, in a field and all through the body, on the way up and
on the way down, so that whoever gets bytes of another exchange knows it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from attrs import frozen

PATH = b"/orchestrator/soak"

#: What a backend does, and how often of a hundred.
DEEDS = {
    "plain": 51,  # a reply with a length
    "chunked": 12,
    "slow": 5,  # after a few milliseconds
    "drip": 3,  # in pieces with pauses
    "early": 3,  # before it has read the body
    "close": 4,  # says that it will close, and does
    "stale": 6,  # closes without a word, so that the pool holds a dead connection
    "extra": 3,  # sends a second reply along, that nobody asked for
    "late": 4,  # sends it when the connection has been idle for some milliseconds
    "cut": 3,  # ends inside a body of known length
    "cut-chunked": 3,
    "reset": 3,  # instead of a reply
}
CUT = ("cut", "cut-chunked")
_BIG = 150_000  # bytes: streamed, not gathered


@frozen
class Talk:
    """One request: its number, the deed it asks for, the bytes of its body (none for GET)."""

    number: int
    deed: str
    upload: int

    @classmethod
    def of(cls, number: int, rng: random.Random) -> Talk:
        """A random one."""
        (deed,) = rng.choices(list(DEEDS), list(DEEDS.values()))
        upload = rng.choice((0, 0, 0, 20, 2000, _BIG if rng.random() < 0.05 else 300))
        return cls(number, deed, upload)

    @property
    def method(self) -> bytes:
        """POST when there is a body."""
        return b"POST" if self.upload else b"GET"

    @property
    def target(self) -> bytes:
        """The request target at the gateway."""
        return b"%b/%d?%b" % (PATH, self.number, self.deed.encode())

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields that carry the number; the access log shows the request id."""
        return [(b"x-number", b"%d" % self.number), (b"x-request-id", b"soak-%d" % self.number)]

    def body(self) -> bytes:
        """The request's body."""
        return filled(self.number, self.upload)

    def reply_body(self) -> bytes:
        """The reply's body when it is whole."""
        return filled(self.number, reply_size(self.number))

    def bytes(self) -> bytes:
        """The request as HTTP/1.1."""
        fields = [(b"host", b"soak"), *self.fields()]
        if self.upload:
            fields.append((b"content-length", b"%d" % self.upload))
        return head(b"%b %b HTTP/1.1" % (self.method, self.target), fields) + self.body()


def head(first: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A message's head."""
    return b"\r\n".join([first, *(b"%b: %b" % field for field in fields), b"", b""])


def filled(number: int, size: int) -> bytes:
    """`size` bytes that say the number over and over."""
    word = b"%d;" % number
    return (word * (size // len(word) + 1))[:size]


def reply_size(number: int) -> int:
    """Small as a rule; every fiftieth reply is larger than a socket's first window."""
    return 100_000 + number % 1000 if number % 50 == 7 else number % 3000
