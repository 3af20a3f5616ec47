"""Replies of our own: problem documents (RFC 9457) and the fields that every reply carries."""

from __future__ import annotations

import time
from email.utils import formatdate

import msgspec

from trio_gateway.errors import GatewayError
from trio_gateway.proxy.exchange import Body, Reply
from trio_gateway.wire.request import RawHeaders

MEDIA_TYPE = b"application/problem+json"

_date: tuple[int, bytes] = (0, b"")


def http_date() -> bytes:
    """The Date field's value now (RFC 9110 6.6.1), formatted once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def own_headers(
    request_id_header: bytes, request_id: bytes, endpoint_id: str = "", seconds: float | None = None
) -> RawHeaders:
    """The fields that mark a reply of our own: date, request id and, where known, endpoint and time."""
    headers = [(b"Date", http_date()), (request_id_header, request_id)]
    if endpoint_id:
        headers.append((b"X-Endpoint-ID", endpoint_id.encode()))
    if seconds is not None:
        headers.append((b"X-Response-Time", b"%.3fs" % seconds))
    return headers


def problem(error: GatewayError, request_id: bytes) -> Reply:
    """The reply that tells a client of `error`; `cause` stays in the log."""
    document = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "source": error.source,
        "request_id": request_id.decode("latin-1"),
        **error.members,
    }
    data = msgspec.json.encode(document)
    headers = [(b"Content-Type", MEDIA_TYPE), *error.headers]
    if error.source != "client":
        headers.append((b"Proxy-Status", b"trio-gateway; error=%b" % error.proxy_error.encode()))  # RFC 9209
    return Reply(error.status, headers, Body(data), len(data), proxied=False)
