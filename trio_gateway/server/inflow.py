"""One HTTP/2 request body as it comes in: whether it keeps its word, and what the client is owed.

h2 could count both, but it would end the whole connection for a length that lies, and it knows nothing of
when bytes have gone on.
"""

from __future__ import annotations

from trio_gateway.server.h2_connection import STREAM_WINDOW
from trio_gateway.wire.request import RawHeaders

_CREDIT_STEP = STREAM_WINDOW // 4  # window updates are frames too: not one for each piece


class Inflow:
    """Counts a body against its Content-Length (RFC 9113 8.1.1), and credit until it is worth a frame."""

    __slots__ = ("_due", "_uncredited")

    def __init__(self, headers: RawHeaders) -> None:
        self._due = _content_length(headers)
        self._uncredited = 0

    def fits(self, size: int) -> bool:
        """Count bytes that came; False when they are more than was promised."""
        if self._due is None:
            return True
        self._due -= size
        return self._due >= 0

    @property
    def may_end(self) -> bool:
        """No promised byte is missing."""
        return not self._due

    def credit(self, size: int) -> int:
        """Count bytes that went on; how much the window opens now, often 0."""
        self._uncredited += size
        if self._uncredited < _CREDIT_STEP:
            return 0
        size, self._uncredited = self._uncredited, 0
        return size


def _content_length(headers: RawHeaders) -> int | None:
    """The length that the body must have; None where there is none, or one for others to refuse."""
    values = [value for name, value in headers if name == b"content-length"]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() and len(values[0]) <= 18 else None
