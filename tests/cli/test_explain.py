"""`trio-gateway explain`: how it is asked and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from trio_gateway.cli.explain import as_text, question
from trio_gateway.cli.explanation import Explanation

CONFIG = """
endpoints:
  - {url: "http://backend:8080/v1", name: users, version: v1}
  - {url: "http://other:8080/", match: {prefix: /users}}
"""


@pytest.fixture(autouse=True)
def file(call: Call) -> None:
    """The config that the tests name."""
    Path("gateway.yaml").write_text(CONFIG)


def test_the_text_tells_the_story_in_order(call: Call) -> None:
    """Request, endpoint, gates, layers, what is sent: a reader follows the request."""
    trace = f"traceparent: 00-{'a' * 32}-{'b' * 16}-01"
    target = "/orchestrator/v1/users/7?a=1"
    result = call("explain", "GET", target, "-c", "gateway.yaml", "-H", "X-Request-ID: me", "-H", trace)
    assert result.exit_code == 0
    assert result.stdout == (
        "request   GET /orchestrator/v1/users/7?a=1\n"
        "          host localhost, from 127.0.0.1\n"
        "endpoint  users: version v1 and name users\n"
        "          route /v1/users, consumed /orchestrator/v1/users, rest /7\n"
        "gates     service passes\n"
        "          method passes\n"
        "layers    guarded: the circuit breaker admits it, or its fallback answers\n"
        "sends     GET http://backend:8080/v1/7?a=1\n"
        "          to backend:8080\n"
        "          Host: backend:8080\n"
        f"          {trace}\n"
        "          X-Request-ID: me\n"
        "          X-Forwarded-For: 127.0.0.1\n"
        "          X-Forwarded-Proto: http\n"
        "          X-Forwarded-Host: localhost\n"
        "          X-Forwarded-Prefix: /orchestrator/v1/users\n"
        "          Via: 1.1 trio-gateway\n"
    )


@pytest.mark.parametrize(
    ("args", "last"),
    [
        (("DELETE", "/orchestrator/users"), "answers   405 method_not_allowed: "),
        (("GET", "/orchestrator/none"), "answers   404 route_not_found: "),
        (("GET", "/health"), "leaves    only what stands under /orchestrator is proxied"),
        (("GET", "/orchestrator/\\"), "answers   400 bad_request: "),
        (("get it", "/orchestrator/users"), "answers   400 bad_request: "),
    ],
)
def test_what_is_not_forwarded_ends_with_1(call: Call, args: tuple[str, ...], last: str) -> None:
    """A script can ask whether a request would pass."""
    result = call("explain", *args, CONFIG_PATH="gateway.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(last)


def test_json_has_all_of_it(call: Call) -> None:
    """A program reads the same story as one object."""
    result = call("explain", "GET", "/orchestrator/users", "-c", "gateway.yaml", "--json", "--from", "::1")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["client"] == "::1"
    assert found["route"]["endpoint"] == "users"
    assert len(found["route"]["passed_over"]) == 1
    assert found["layers"] == ["guarded"]
    assert found["sent"]["url"] == "http://backend:8080/v1"
    assert ["Via", "1.1 trio-gateway"] in found["sent"]["headers"]
    assert found["answered"] is None


@pytest.mark.parametrize(
    "args",
    [
        ("GET",),
        ("GET", "users"),
        ("GET", "ftp://a/b"),
        ("GET", "/a", "-H", "no colon"),
        ("GET", "/a", "-H", "A: b\r\nC: d"),
        ("GET", "/a", "--from", "somewhere"),
        ("GET", "/a", "-c", "gone.yaml"),
    ],
)
def test_bad_usage_and_a_missing_config_end_with_2(call: Call, args: tuple[str, ...]) -> None:
    """What can't be asked is no answer about a request."""
    assert call("explain", *args).exit_code == 2


def test_an_unusable_certificate_is_bad_config(call: Call) -> None:
    """TLS files are loaded as they would be for serving."""
    Path("gateway.yaml").write_text("endpoints: [{url: https://a, name: a, tls: {ca: gone.pem}}]\n")
    result = call("explain", "GET", "/orchestrator/a", "-c", "gateway.yaml")
    assert result.exit_code == 2
    assert "endpoint a: tls: " in result.stderr


@pytest.mark.parametrize(
    ("url", "line", "host", "tls"),
    [
        ("/a?b=1#c", b"GET /a?b=1 HTTP/1.1", b"Host: localhost", None),
        ("http://gw:81/a?b", b"GET /a?b HTTP/1.1", b"Host: gw:81", False),
        ("HTTPS://gw", b"GET / HTTP/1.1", b"Host: gw", True),
        ("http://gw?b=/c", b"GET /?b=/c HTTP/1.1", b"Host: gw", False),
        ("/a?u=http://b/c", b"GET /a?u=http://b/c HTTP/1.1", b"Host: localhost", None),
    ],
)
def test_a_url_becomes_the_head_that_a_client_would_send(
    url: str, line: bytes, host: bytes, tls: bool | None
) -> None:
    """Path and query stay as typed, the fragment stays at home."""
    asked = question("GET", url, (), "127.0.0.1")
    assert asked.head.split(b"\r\n")[:2] == [line, host]
    assert asked.tls is tls


def test_a_host_of_the_asker_s_replaces_ours() -> None:
    """Two Host fields would be refused."""
    asked = question("GET", "http://gw/", ("host: other", "Accept:text/html"), "127.0.0.1")
    assert asked.head == b"GET / HTTP/1.1\r\nhost: other\r\nAccept: text/html\r\n\r\n"


def test_an_explanation_without_a_route_is_still_a_text() -> None:
    """The rendering leaves out what is not known."""
    assert as_text(Explanation("GET", "/x", "h", "::1", hints=("a fits",))).splitlines() == [
        "request   GET /x",
        "          host h, from ::1",
        "          a fits",
    ]


def test_a_ws_url_asks_for_a_websocket(call: Call) -> None:
    """Its handshake is judged by a gate of its own, and goes upstream as one."""
    result = call("explain", "GET", "wss://gateway.example/orchestrator/users/live", "-c", "gateway.yaml")
    assert result.exit_code == 0
    told = result.stdout
    assert "          websocket passes\n" in told
    assert "sends     GET http://backend:8080/v1/live\n" in told
    for line in (
        "Sec-WebSocket-Version: 13",
        "X-Forwarded-Proto: https",
        "Connection: Upgrade",
        "Upgrade: websocket",
    ):
        assert f"          {line}\n" in told


def test_a_websocket_may_be_refused(call: Call) -> None:
    """Where they are disabled, or the handshake is of another version."""
    Path("gateway.yaml").write_text("websocket: {enabled: false}\n" + CONFIG)
    result = call("explain", "GET", "ws://a/orchestrator/users", "-c", "gateway.yaml")
    assert (result.exit_code, result.stdout.splitlines()[-1].split(":")[0]) == (
        1,
        "answers   403 websocket_disabled",
    )
    assert "          websocket refuses with 403\n" in result.stdout
