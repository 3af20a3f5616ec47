"""W3C Trace Context: which trace a request belongs to.

The gateway records no spans of its own, so a context that comes in goes on as it is, to the byte. Where
there is none that can be understood a trace begins here, and what came in its place goes no further,
`tracestate` included (Level 1, 2.3 and 4.2). A new one is marked as sampled: our access line is a record
of it, and backends that follow their caller's decision would otherwise record nothing any more.
"""

from __future__ import annotations

import re

from trio_gateway.domain.chance import hex_digits
from trio_gateway.domain.fields import RawHeaders

FIELDS = frozenset((b"traceparent", b"tracestate"))
"""The fields of a context, in lower case."""

_IDS = rb"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_understood = re.compile(rb"00-%b|(?!00|ff)[0-9a-f]{2}-%b(?:-.*)?" % (_IDS, _IDS)).fullmatch


def context_of(headers: RawHeaders) -> bytes:
    """The `traceparent` that a request came with; b"" when it has none, two, or one that is no context."""
    found = [value for name, value in headers if name.lower() == b"traceparent"]
    return found[0] if len(found) == 1 and _understood(found[0]) else b""


def new_context() -> bytes:
    """A `traceparent` that begins a trace."""
    digits = hex_digits(48)
    return f"00-{digits[:32]}-{digits[32:]}-01".encode()


def ids_of(context: bytes) -> tuple[str, str] | tuple[None, None]:
    """The trace id and the span id of a context; nothing for b""."""
    if not context:
        return None, None
    text = context.decode()
    return text[3:35], text[36:52]
