"""What passes through the gateway passes unchanged: targets, fields and bodies, octet for octet."""

from __future__ import annotations

import pytest

from tests.support.faults import fault
from tests.support.stage import METHODS, USERS, Door, recording
from tests.support.upstream import Received

TARGETS = [
    ("", "/"),
    ("/", "/"),
    ("?", "/?"),
    ("/a/b", "/a/b"),
    ("/a/b/", "/a/b/"),
    ("/a?b=c&b=d&&=", "/a?b=c&b=d&&="),
    ("/a?x=/../%2e%2e/%00", "/a?x=/../%2e%2e/%00"),
    ("/%2F%3F%23%25%3B", "/%2F%3F%23%25%3B"),
    ("/%c3%A9/%7Euser/~user", "/%c3%A9/%7Euser/~user"),
    ("//x", "//x"),
    ("/a//b", "/a//b"),
    ("/;p=1/!$&'()*+,=:@", "/;p=1/!$&'()*+,=:@"),
    ("/http://elsewhere.example/", "/http://elsewhere.example/"),
    ("/...", "/..."),
]


@fault("R1")
@fault("rule 2")
@pytest.mark.parametrize(("rest", "target"), TARGETS)
async def test_the_rest_of_a_target_reaches_the_backend_as_it_was_sent(
    door: Door, rest: str, target: str
) -> None:
    """Sub-path and query arrive octet for octet, neither decoded nor normalised."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        answer = await stage.get(rest)
        assert answer.status == 200
        assert [received.target for received in seen] == [target.encode()]


@pytest.mark.parametrize(
    ("url", "mode", "rest", "target"),
    [
        ("/v1", "append", "/users", "/v1/users"),
        ("/v1/", "append", "/users", "/v1/users"),
        ("/v1", "append", "//x", "/v1//x"),
        ("/get", "append", "", "/get"),
        ("/get", "append", "/", "/get/"),
        ("/v1?a", "append", "/x?b", "/v1/x?a&b"),
        ("/v1?a", "append", "", "/v1?a"),
        ("/v1/get", "replace_last", "/users", "/v1/users"),
        ("/v1/get", "replace_last", "//elsewhere.example/x", "/v1/elsewhere.example/x"),
        ("/v1/get", "replace_last", "", "/v1/get"),
    ],
)
async def test_the_rest_is_joined_to_the_endpoint_s_url(
    door: Door, url: str, mode: str, rest: str, target: str
) -> None:
    """`path.mode` says how the url's path and the rest become one target."""
    seen: list[Received] = []
    endpoint = {"url": "http://backend.example" + url, "path": {"mode": mode}}
    async with door.stage(recording(seen), endpoint) as stage:
        await stage.get(rest)
        assert [received.target for received in seen] == [target.encode()]


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_passes(door: Door, method: str) -> None:
    """The method arrives as it was sent."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        answer = await stage.fetch(method, USERS)
        assert (answer.status, answer.body) == (200, b"ok")
        assert [received.method for received in seen] == [method.encode()]


@fault("H5")
@fault("rule 2")
async def test_request_fields_keep_order_duplicates_and_octets(door: Door) -> None:
    """Fields arrive in their order, doubled ones doubled, octets above 127 untouched."""
    seen: list[Received] = []
    fields = ["X-B: 1", "X-A: 2", "X-B: 3", "X-Text: caf\xe9 \xff", "X-Empty:", "Authorization: Basic eDp5"]
    async with door.stage(recording(seen)) as stage:
        await stage.get("", *fields)
        (received,) = seen
        passed = [f"{name.decode()}: {value.decode('latin-1')}".strip() for name, value in received.headers]
        expected = fields if door.name == "lane" else [_lower(line) for line in fields]
        assert [line for line in passed if line in expected] == expected


def _lower(line: str) -> str:
    name, _, value = line.partition(":")
    return f"{name.lower()}:{value}"


@fault("H5")
async def test_reply_fields_keep_order_duplicates_and_octets(door: Door) -> None:
    """So do the reply's, Set-Cookie among them, and its Date stays one."""
    lines = [
        "X-B: 1",
        "Set-Cookie: a=1; Path=/x",
        "X-Text: \xe9\xff",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT",
        "Set-Cookie: b=2",
        "X-B: 3",
    ]
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "Content-Length: 0", "", ""]).encode("latin-1")
    endpoint = {"headers": {"location": "pass"}}
    async with door.stage(recording([], head), endpoint) as stage:
        answer = await stage.get()
        passed = [f"{name.decode()}: {value.decode('latin-1')}" for name, value in answer.headers]
        expected = lines if door.name == "lane" else [_lower(line) for line in lines]
        assert passed[: len(lines)] == expected
        assert answer.values("content-length") == ["0"]


@fault("H6")
async def test_a_bare_request_gains_only_what_is_documented(door: Door) -> None:
    """Nothing is invented: no User-Agent, no Accept, no Connection."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        await stage.get()
        (received,) = seen
        assert [name for name, _ in received.headers] == [
            b"Host",
            b"traceparent",
            b"X-Request-ID",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"X-Forwarded-Host",
            b"X-Forwarded-Prefix",
            b"Via",
        ]
        assert received.values(b"host") == [b"backend.example"]


@fault("H7")
async def test_cookies_belong_to_who_sent_them(door: Door) -> None:
    """What one client got with Set-Cookie is never sent for another, or for itself."""
    seen: list[Received] = []
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=secret\r\nContent-Length: 0\r\n\r\n"
    async with door.stage(recording(seen, reply)) as stage:
        caller = await stage.connect()
        assert (await caller.fetch("GET", USERS, "Cookie: a=1; b=2")).value("set-cookie") == "session=secret"
        await caller.fetch("GET", USERS)
        await stage.get()
        assert [received.values(b"cookie") for received in seen] == [[b"a=1; b=2"], [], []]
        assert stage.backend.connections == 1


@fault("D5")
async def test_crumbs_of_a_cookie_become_one_field(h2: Door) -> None:
    """HTTP/2 may cut a Cookie in crumbs; HTTP/1.1 must not see them (RFC 9113 8.2.3)."""
    seen: list[Received] = []
    async with h2.stage(recording(seen)) as stage:
        await stage.get("", "Cookie: a=1", "Cookie: b=2", "Cookie: c=3")
        assert seen[0].values(b"cookie") == [b"a=1; b=2; c=3"]
