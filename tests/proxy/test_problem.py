"""Replies of our own."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import pytest

from trio_gateway.errors import CircuitOpen, ClientGone, ConnectFailed, GatewayError, MethodNotAllowed
from trio_gateway.proxy import problem as module
from trio_gateway.proxy.problem import http_date, own_headers, problem


@pytest.mark.parametrize(
    "error", [MethodNotAllowed("No"), CircuitOpen(), ConnectFailed(cause="10.0.0.7"), ClientGone()]
)
def test_the_document_says_what_went_wrong_and_whose_doing_it_is(error: GatewayError) -> None:
    """RFC 9457, with our members; the cause stays inside."""
    reply = problem(error, b"id-1")
    body = reply.body.take() or b""
    assert json.loads(body) == {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "source": error.source,
        "request_id": "id-1",
    }
    assert (reply.status, reply.length, reply.proxied) == (error.status, len(body), False)
    assert reply.headers[0] == (b"Content-Type", b"application/problem+json")


def test_an_error_adds_its_fields_and_members() -> None:
    """`Allow`, `Retry-After`, and what clients of the old gateway read."""
    reply = problem(MethodNotAllowed(headers=((b"Allow", b"GET"),), members={"error": "x"}), b"i")
    assert (b"Allow", b"GET") in reply.headers
    assert json.loads(reply.body.take() or b"")["error"] == "x"


def test_proxy_status_tells_of_failures_beyond_the_client() -> None:
    """RFC 9209; a client's own mistake needs none."""
    names = [name for name, _ in problem(MethodNotAllowed(), b"i").headers]
    assert b"Proxy-Status" not in names
    fields = dict(problem(ConnectFailed(), b"i").headers)
    assert fields[b"Proxy-Status"] == b"trio-gateway; error=connection_refused"


def test_the_date_is_an_http_date_of_this_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formatted anew when the second changes."""
    monkeypatch.setattr(module.time, "time", lambda: 784111777.9)
    assert http_date() == b"Sun, 06 Nov 1994 08:49:37 GMT"
    monkeypatch.setattr(module.time, "time", lambda: 784111778.0)
    assert parsedate_to_datetime(http_date().decode()).second == 38


def test_own_headers_name_what_is_known() -> None:
    """Endpoint and time only where there are any."""
    assert [name for name, _ in own_headers(b"X-Id", b"1")] == [b"Date", b"X-Id"]
    assert own_headers(b"X-Id", b"1", "users", 0.125)[2:] == [
        (b"X-Endpoint-ID", b"users"),
        (b"X-Response-Time", b"0.125s"),
    ]
