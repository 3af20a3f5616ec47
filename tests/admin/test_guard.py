"""What stands before an operation: names that are ours, pages that may, and a line for each change."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.admin.control import CONFIG, SECRET, control, token
from trio_gateway.admin.guard import Caller, Guard, HostNotAllowed, OriginNotAllowed, check_place, exposure
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import ConfigError

BIND = 'server: {bind: ["10.0.0.5:8000", "gw.internal:8000"]}\n'
ANY = 'server: {bind: ["0.0.0.0:8000"]}\n'
OWN = ANY + 'admin: {bind: "10.0.0.9:9000"}\n'
NAMED = "admin: {allowed_hosts: [gw.example.com, '*.corp.example', '[2001:db8::1]']}\n"


def config_of(text: str) -> GatewayConfig:
    return parse_config(text, "test.yaml", {}).require()


def caller(host: str = "localhost:8000", origin: str | None = None) -> Caller:
    return Caller("127.0.0.1", host, origin, None)


# ---- hosts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "ours"),
    [
        (BIND, "localhost", True),
        (BIND, "LOCALHOST:1", True),
        (BIND, "127.0.0.1:8000", True),
        (BIND, "[::1]:8000", True),
        (BIND, "10.0.0.5:8000", True),
        (BIND, "GW.internal:99", True),
        (BIND, "10.0.0.6:8000", False),
        (BIND, "evil.example:8000", False),
        (BIND, "localhost.evil.example", False),
        (BIND, "127.0.0.1.evil.example", False),
        (BIND, "", False),
        (ANY, "192.0.2.1:8000", True),
        (ANY, "[2001:db8::7]", True),
        (ANY, "evil.example", False),
        (OWN, "10.0.0.9:9000", True),
        (OWN, "192.0.2.1", False),
        (BIND + NAMED, "gw.example.com:8000", True),
        (BIND + NAMED, "a.corp.example", True),
        (BIND + NAMED, "corp.example", False),
        (BIND + NAMED, "evilcorp.example", False),
        (BIND + NAMED, "[2001:DB8::1]:8000", True),
    ],
)
def test_a_host_must_be_ours(text: str, host: str, ours: bool) -> None:
    """Bound addresses, loopback names, allowed hosts; any address where we listen on every one."""
    if ours:
        check_place(caller(host), config_of(text))
    else:
        with pytest.raises(HostNotAllowed):
            check_place(caller(host), config_of(text))


# ---- origins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "may"),
    [
        ("localhost:8000", None, True),
        ("localhost:8000", "http://localhost:8000", True),
        ("LocalHost:8000", "https://localhost:8000", True),
        ("localhost:8000", "http://localhost:9000", False),
        ("localhost:8000", "http://localhost", False),
        ("localhost:8000", "http://evil.example", False),
        ("localhost:8000", "null", False),
        ("localhost:8000", "", False),
        ("localhost:8000", "http://[broken", False),
        ("localhost:8000", "https://app.example", True),
        ("localhost:8000", "https://app.example.evil", False),
    ],
)
def test_a_page_must_be_ours_or_named(host: str, origin: str | None, may: bool) -> None:
    """No foreign page can post; one of `admin.cors` can."""
    config = config_of("admin: {cors: {origins: [https://app.example]}}")
    if may:
        check_place(caller(host, origin), config)
    else:
        with pytest.raises(OriginNotAllowed):
            check_place(caller(host, origin), config)


async def test_a_foreign_page_does_nothing(tmp_path: Path) -> None:
    """Neither a rebound name nor a cross-site post gets through, even with `auth: none`."""
    async with control(tmp_path, "admin: {auth: none}\nendpoints: [{url: http://h, name: a}]") as gateway:
        path = "/registry/endpoints/a/status?status=disabled"
        for field, code in (
            ("Host: evil.example", "host_not_allowed"),
            ("Origin: http://evil.example", "origin_not_allowed"),
        ):
            reply = await gateway.fetch("PUT", path, field, scope=None)
            assert (reply.status, reply.json["code"]) == (403, code)
        assert gateway.plane.runtime.registry.get("a").status == "active"


async def test_open_operations_have_any_name(tmp_path: Path) -> None:
    """A load balancer asks for its own name's health, and is told nothing that needs guarding."""
    async with control(tmp_path) as gateway:
        for path in ("/livez", "/readyz", "/health", "/docs"):
            assert (await gateway.get(path, "Host: balancer.example", scope=None)).status == 200


async def test_named_pages_are_told_that_they_may(tmp_path: Path) -> None:
    """A preflight needs no token; the reply itself names the origin. Others are told nothing."""
    text = CONFIG.replace("admin: {", "admin: {cors: {origins: [https://app.example]}, ")
    async with control(tmp_path, text) as gateway:
        asked = "Access-Control-Request-Method: POST"
        preflight = await gateway.fetch(
            "OPTIONS", "/config/reload", "Origin: https://app.example", asked, scope=None
        )
        assert preflight.status == 204
        assert preflight.header("Access-Control-Allow-Origin") == "https://app.example"
        assert preflight.header("Access-Control-Allow-Headers") == "Authorization, Content-Type"
        reply = await gateway.get("/config/status", "Origin: https://app.example")
        assert reply.header("Access-Control-Allow-Origin") == "https://app.example"
        assert reply.header("Vary") == "Origin"
        other = await gateway.get("/health", "Origin: https://other.example")
        assert other.headers.values("Access-Control-Allow-Origin") == []


async def test_without_cors_no_page_may(tmp_path: Path) -> None:
    """Nothing is granted by default."""
    async with control(tmp_path) as gateway:
        asked = ("Origin: https://app.example", "Access-Control-Request-Method: POST")
        preflight = await gateway.fetch("OPTIONS", "/config/reload", *asked, scope=None)
        assert preflight.headers.values("Access-Control-Allow-Origin") == []


# ---- keys and reloads --------------------------------------------------------------------------------


async def test_a_reload_changes_who_may(tmp_path: Path) -> None:
    """A new secret counts from the next request on, and the old one no more."""
    async with control(tmp_path) as gateway:
        gateway.path.write_text(gateway.path.read_text().replace(SECRET, "x" * 64))
        assert (await gateway.post("/config/reload")).json["success"] is True
        assert (await gateway.get("/config/status")).status == 401
        fresh = f"Authorization: Bearer {token('read', secret='x' * 64)}"
        assert (await gateway.get("/config/status", fresh, scope=None)).status == 200


async def test_keys_that_can_t_be_used_change_nothing(tmp_path: Path) -> None:
    """Who made a mistake in the new keys can still get in with the old ones, to mend it."""
    current = [config_of(f"admin: {{auth: {{jwt: {{secret: {SECRET}}}}}}}")]
    guard = Guard(lambda: current[0], str)
    asks = Caller("127.0.0.1", "localhost", None, f"Bearer {token('read')}")
    assert (await guard.admit(asks, "read")).subject == "tester"
    broken = config_of("admin: {auth: {jwt: {secret_file: /nowhere/secret}}}")
    with pytest.raises(ConfigError):
        guard.check(broken)
    current[0] = broken
    assert (await guard.admit(asks, "read")).subject == "tester"


# ---- who did what ------------------------------------------------------------------------------------


async def test_each_change_leaves_a_line(tmp_path: Path) -> None:
    """Subject, operation and result, of what was done and of what was refused; reads leave none."""
    async with control(tmp_path) as gateway:
        with capture_logs() as logs:
            await gateway.fetch("PUT", "/registry/endpoints/users/status?status=inactive", "X-Request-ID: r1")
            await gateway.fetch("PUT", "/registry/endpoints/none/status?status=inactive")
            await gateway.post("/registry/sync", scope="read")
            await gateway.post("/registry/sync", scope=None)
            await gateway.post("/registry/endpoints", body=b"{")
            await gateway.get("/registry/stats")
    lines = [line for line in logs if line["event"] == "audit"]
    told = [(line["subject"], line["operation"], line["result"]) for line in lines]
    assert told == [
        ("tester", "set_endpoint_status", 200),
        ("tester", "set_endpoint_status", 404),
        ("tester", "sync_registry", 403),
        ("", "sync_registry", 401),
        ("tester", "register_endpoint", 422),
    ]
    assert lines[0]["request_id"] == "r1"
    assert (lines[0]["client"], lines[0]["path"]) == ("127.0.0.1", "/registry/endpoints/users/status")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("admin: {auth: none}", "0.0.0.0:8000"),
        ('server: {bind: ["127.0.0.1:1", "10.0.0.1:1"]}\nadmin: {auth: none}', "10.0.0.1:1"),
        ("admin: {auth: none, bind: '10.0.0.1:2'}", "10.0.0.1:2"),
        ("admin: {auth: none, bind: '127.0.0.1:2'}", None),
        ('server: {bind: ["localhost:1"]}\nadmin: {auth: none}', None),
        ("admin: {auth: {jwt: {issuer: i}}}", None),
    ],
)
def test_an_open_api_is_named_at_start(text: str, named: str | None) -> None:
    """Unless only this machine reaches it."""
    warning = exposure(config_of(text))
    assert warning == (
        None if named is None else f"admin.auth is none: whoever reaches {named} can change this gateway"
    )
