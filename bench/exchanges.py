"""What is asked and what must come back, and the nginx backend that answers it.

Each reply proves something about its request: the 16 KiB POST is answered with the length that arrived, the
30 header fields with the value of the last one. So a gateway that drops a body or a field does not count.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from attrs import frozen

PREFIX = "/orchestrator/bench"  # what every gateway strips, so that all of them do the same path work
SMALL = b'{"id": 7, "name": "bench", "tags": ["small", "json"], "active": true}'
POSTED = 16 * 1024
LARGE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(64 * 1024 // 32))
FIELDS = 29  # and Host makes 30


@frozen
class Kind:
    """One sort of request, and the body that its reply must have."""

    title: str
    path: str
    expected: bytes
    method: str = "GET"
    body_bytes: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False

    @property
    def target(self) -> str:
        """The path as the client calls it."""
        return PREFIX + self.path


KINDS = {
    "small": Kind("small JSON GET, keep-alive", "/small", SMALL),
    "post": Kind(
        "POST of 16 KiB",
        "/post",
        b'{"received": %d}' % POSTED,
        method="POST",
        body_bytes=POSTED,
        headers=(("Content-Type", "application/octet-stream"),),
    ),
    "reply": Kind("reply of 64 KiB", "/large.bin", LARGE),
    "headers": Kind(
        "30 request header fields",
        "/headers",
        b'{"last": "value-of-the-field-%02d"}' % FIELDS,
        headers=tuple((f"X-Field-{n:02d}", f"value-of-the-field-{n:02d}") for n in range(1, FIELDS + 1)),
    ),
    "tls": Kind("small JSON GET, keep-alive, over TLS", "/small", SMALL, tls=True),
    "tlsreply": Kind("reply of 64 KiB over TLS", "/large.bin", LARGE, tls=True),
    "newconn": Kind("a new connection per request", "/small", SMALL, headers=(("Connection", "close"),)),
}


@frozen
class Row:
    """One line of the table: a kind of request from so many clients at once."""

    kind: Kind
    name: str
    clients: int

    @classmethod
    def of(cls, name: str) -> Row:
        """Read `kind-clients`, as in `small-32`; ValueError says what is wrong."""
        kind, _, clients = name.partition("-")
        if kind not in KINDS or not clients.isdigit() or int(clients) < 1:
            raise ValueError(f"row {name!r}: expected KIND-CLIENTS with KIND one of {', '.join(KINDS)}")
        return cls(KINDS[kind], name, int(clients))


DEFAULT_ROWS = (
    "small-1",
    "small-32",
    "small-500",
    "post-32",
    "reply-32",
    "headers-32",
    "newconn-32",
    "tls-32",
    "reply-500",
)

BACKEND = """\
    access_log off;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory};
        location = /small {{ return 200 '{small}'; }}
        location = /post {{ return 200 '{{"received": $content_length}}'; }}
        location = /headers {{ return 200 '{{"last": "$http_x_field_{fields}"}}'; }}
    }}
"""


def backend_http(directory: Path, port: int) -> str:
    """The `http` block's inside for the backend; writes the file that it serves."""
    (directory / "large.bin").write_bytes(LARGE)
    return BACKEND.format(port=port, directory=directory, small=SMALL.decode(), fields=FIELDS)
