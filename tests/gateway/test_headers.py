"""What the gateway changes in the fields of a message, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.client import Answer
from tests.support.doors import Cut
from tests.support.faults import fault
from tests.support.stage import USERS, Door, recording
from tests.support.upstream import Received

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TRUSTING = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}


def reply(*fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def ask(door: Door, *fields: str, target: str = USERS, **stage: Any) -> Received:
    """What the backend receives of a GET with these fields."""
    seen: list[Received] = []
    async with door.stage(recording(seen), **stage) as stage_:
        assert (await stage_.fetch("GET", target, *fields)).status == 200
        (received,) = seen
        return received


async def answer(door: Door, *fields: str, status: str = "200 OK", **stage: Any) -> Answer:
    """What the client gets of a reply with these fields."""
    async with door.stage(recording([], reply(*fields, status=status)), **stage) as stage_:
        return await stage_.get()


# ---- hop by hop -----------------------------------------------------------------------------------


@fault("H1")
async def test_fields_of_the_client_s_connection_stay_there(lane: Door) -> None:
    """Hop-by-hop fields and those that Connection names are not forwarded (RFC 9110 7.6.1)."""
    received = await ask(
        lane,
        "Connection: keep-alive, X-Mine",
        "connection: x-TOO",
        "X-Mine: 1",
        "X-Too: 2",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Proxy: http://evil.example",
        "X-Kept: 3",
    )
    names = {name.lower() for name, _ in received.headers}
    assert names == {
        b"host",
        b"x-kept",
        b"traceparent",
        b"x-request-id",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-prefix",
        b"via",
    }


@fault("H1")
@pytest.mark.parametrize("name", ["Host", "content-length", "Authorization"])
async def test_connection_cannot_name_what_must_pass(lane: Door, name: str) -> None:
    """A client can't have us drop Host, Content-Length or Authorization: 400."""
    async with lane.stage() as stage:
        assert (await stage.get("", f"Connection: close, {name}")).status == 400
        assert stage.backend.connections == 0


@fault("D3")
@pytest.mark.parametrize(
    "field",
    ["Connection: close", "Keep-Alive: x", "Transfer-Encoding: chunked", "TE: gzip", "Upgrade: websocket"],
)
async def test_http2_has_no_fields_of_a_connection(h2: Door, field: str) -> None:
    """They make a request malformed: its stream is reset, its neighbours go on (RFC 9113 8.2.2)."""
    async with h2.stage() as stage:
        caller = await stage.connect()
        with pytest.raises(Cut):
            await caller.fetch("GET", USERS, field)
        assert (await caller.fetch("GET", USERS)).status == 200


@fault("H1")
async def test_fields_of_the_backend_s_connection_stay_there(door: Door) -> None:
    """So do the reply's, and Server."""
    got = await answer(
        door,
        "Connection: keep-alive, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "Server: secret/1.0",
        "X-Kept: 1",
    )
    names = [name.lower() for name, _ in got.headers]
    assert sorted(names) == sorted(
        [
            b"x-kept",
            b"date",
            b"x-orchestrated-by",
            b"x-endpoint-id",
            b"via",
            b"x-response-time",
            b"x-request-id",
            b"content-length",
        ]
    )


# ---- who forwarded ----------------------------------------------------------------------------------

FORGED = [
    "X-Forwarded-For: 10.9.9.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Port: 1",
    "X_Forwarded_For: 10.9.9.9",
    "X-Real-IP: 10.9.9.9",
    "Forwarded: for=10.9.9.9",
]


@fault("H3")
async def test_nobody_forges_who_forwarded(door: Door) -> None:
    """From a peer that is not trusted, everything that speaks for others is replaced."""
    received = await ask(door, *FORGED)
    forwarded = [
        (name, value) for name, value in received.headers if b"forward" in name.lower().replace(b"_", b"-")
    ]
    assert forwarded == [
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"gateway.example"),
        (b"X-Forwarded-Prefix", b"/orchestrator/users"),
    ]
    assert received.values(b"x-real-ip") == []


@fault("H3")
async def test_a_trusted_peer_is_believed(door: Door) -> None:
    """From a trusted peer X-Forwarded-For is continued, and what else it says stands."""
    received = await ask(
        door, "X-Forwarded-For: 192.0.2.1", *FORGED[1:3], "X-Real-IP: 192.0.2.1", server=TRUSTING
    )
    assert received.values(b"x-forwarded-for") == [b"192.0.2.1, 127.0.0.1"]
    assert received.values(b"x-forwarded-proto") == [b"https"]
    assert received.values(b"x-forwarded-host") == [b"evil.example"]
    assert received.values(b"x-forwarded-prefix") == [b"/orchestrator/users"]
    assert received.values(b"x-real-ip") == [b"192.0.2.1"]


@fault("H3")
@pytest.mark.parametrize(
    ("inbound", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.1.1.1", "192.0.2.1"),
        ("nonsense", "127.0.0.1"),
    ],
)
async def test_the_client_is_the_first_untrusted_from_the_right(
    door: Door, inbound: str, client: str
) -> None:
    """That address decides `deny`, and stands in the access line."""
    endpoint = {"deny": [client]}
    async with door.stage(endpoint=endpoint, server=TRUSTING) as stage:
        assert (await stage.get("", f"X-Forwarded-For: {inbound}")).status == 403
        assert (await stage.lines())[0].client == client


# ---- ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inbound", ["abc", "a" * 128, "!~{}[]\"'"])
async def test_an_acceptable_request_id_is_kept(door: Door, inbound: str) -> None:
    """Backend, reply and access line carry the client's."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        got = await stage.get("", f"X-Request-ID: {inbound}")
        assert got.value("x-request-id") == inbound
        assert seen[0].values(b"x-request-id") == [inbound.encode()]
        assert (await stage.lines())[0].request_id == inbound.encode()


@pytest.mark.parametrize("inbound", ["", "a" * 129, "a b", "caf\xe9"])
async def test_any_other_request_id_is_replaced(door: Door, inbound: str) -> None:
    """A new one is made, and all carry the same."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        got = (await stage.get("", f"X-Request-ID: {inbound}")).value("x-request-id")
        assert UUID4.fullmatch(got)
        assert seen[0].values(b"x-request-id") == [got.encode()]
        assert (await stage.lines())[0].request_id == got.encode()


async def test_the_upstream_s_request_id_does_not_replace_ours(door: Door) -> None:
    """One request has one id."""
    async with door.stage(recording([], reply("X-Request-ID: theirs"))) as stage:
        assert (await stage.get("", "X-Request-ID: ours")).values("x-request-id") == ["ours"]


async def test_the_id_s_field_and_our_trust_in_it_are_configured(door: Door) -> None:
    """`tracing` names the field and says whether a client may choose the id."""
    seen: list[Received] = []
    tracing = {"request_id_header": "X-Trace", "trust_inbound_request_id": False}
    async with door.stage(recording(seen), tracing=tracing) as stage:
        got = await stage.get("", "X-Trace: mine", "X-Request-ID: other")
        assert UUID4.fullmatch(got.value("x-trace"))
        assert seen[0].values(b"x-trace") == [got.value("x-trace").encode()]
        assert seen[0].values(b"x-request-id") == [b"other"]


# ---- Via --------------------------------------------------------------------------------------------


async def test_via_is_continued(door: Door) -> None:
    """We stand behind those before us, with the protocol that they spoke to us."""
    received = await ask(door, "Via: 1.0 fred, 1.1 p.example")
    version = b"2" if door.name == "h2" else b"1.1"
    assert received.values(b"via") == [b"1.0 fred, 1.1 p.example", version + b" trio-gateway"]


async def test_a_request_that_goes_in_circles_is_stopped(door: Door) -> None:
    """Our own name three times in Via is a loop: 508. Twice is not."""
    async with door.stage() as stage:
        assert (await stage.get("", "Via: 1.1 trio-gateway, 2 trio-gateway")).status == 200
        looped = await stage.get("", "Via: 1.1 trio-gateway", "Via: 2 trio-gateway, 1.1 trio-gateway")
        assert looped.status == 508
        assert stage.backend.connections == 1


async def test_via_can_be_left_out(door: Door) -> None:
    """`via: false` names us in neither direction."""
    seen: list[Received] = []
    async with door.stage(recording(seen), {"headers": {"via": False}}) as stage:
        assert (await stage.get()).values("via") == []
        assert seen[0].values(b"via") == []


# ---- what we add, and what the config changes ---------------------------------------------------------


async def test_a_reply_carries_what_clients_of_the_old_gateway_read(door: Door) -> None:
    """X-Orchestrated-By, X-Endpoint-ID and X-Response-Time, which no upstream can forge; one Date."""
    forged = ["X-Orchestrated-By: me", "X-Endpoint-ID: other", "X-Response-Time: 0s"]
    got = await answer(door, *forged, "Date: Thu, 01 Jan 1970 00:00:00 GMT", "date: x")
    assert got.values("x-orchestrated-by") == ["Orchestrator-API"]
    assert got.values("x-endpoint-id") == ["users"]
    assert re.fullmatch(r"\d+\.\d{3}s", got.value("x-response-time"))
    assert got.values("date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]


async def test_a_reply_without_a_date_gets_one(door: Door) -> None:
    """A recipient with a clock adds it (RFC 9110 6.6.1)."""
    assert (await answer(door)).value("date").endswith(" GMT")


CHANGES: Mapping[str, Any] = {
    "headers": {
        "request": {"set": {"X-Set": "new"}, "add": {"X-Add": "2", "X-Set": "more"}, "remove": ["X-Gone"]},
        "response": {"set": {"Cache-Control": "no-store"}, "add": {"X-Add": "2"}, "remove": ["X-Powered-By"]},
    }
}


async def test_configured_changes_apply_to_requests(door: Door) -> None:
    """Removed, set, then added, whatever the client's spelling."""
    received = await ask(door, "x-set: old", "X-ADD: 1", "x-gone: 1", "X-Gone: 2", endpoint=CHANGES)
    assert received.values(b"x-set") == [b"new", b"more"]
    assert received.values(b"x-add") == [b"1", b"2"]
    assert received.values(b"x-gone") == []


async def test_configured_changes_apply_to_replies(door: Door) -> None:
    """The same on the way back."""
    got = await answer(door, "cache-control: public", "X-Add: 1", "X-Powered-By: x", endpoint=CHANGES)
    assert got.values("cache-control") == ["no-store"]
    assert got.values("x-add") == ["1", "2"]
    assert got.values("x-powered-by") == []


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("http://backend.example/", "rewrite", b"backend.example"),
        ("http://backend.example:81/", "rewrite", b"backend.example:81"),
        ("http://backend.example/", "preserve", b"shop.example:8000"),
    ],
)
async def test_the_backend_s_host_is_its_own_or_the_client_s(
    door: Door, url: str, host: str, expected: bytes
) -> None:
    """`headers.host` says which."""
    seen: list[Received] = []
    async with door.stage(endpoint={"url": url, "headers": {"host": host}}) as stage:
        if ":81" in url:
            await stage.serve(recording(seen), "backend.example", 81)
        else:
            stage.backend.script = recording(seen)
        await stage.get("", "Host: shop.example:8000")
        assert seen[0].values(b"host") == [expected]
        assert seen[0].values(b"x-forwarded-host") == [b"shop.example:8000"]
