"""Which endpoint a request reaches, what stands at its gate, and that no spelling gets around either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.faults import fault
from tests.support.stage import USERS, Door, in_virtual_time, recording
from tests.support.upstream import Received

BACKEND = "http://backend.example"


def endpoint(name: str, **more: Any) -> dict[str, Any]:
    """An endpoint whose requests arrive below its own name."""
    return {"url": f"{BACKEND}/{name}", "name": name, "methods": ["GET", "POST"], **more}


SHOP = [
    endpoint("orders", match={"prefix": "/shop/orders"}),
    endpoint("wares", match={"prefix": "/shop"}),
    endpoint("posts", match={"prefix": "/shop", "methods": ["POST"], "priority": 3}),
    endpoint("debug", match={"prefix": "/shop", "query": {"debug": "*"}, "priority": 4}),
    endpoint("beta", match={"prefix": "/shop", "headers": {"X-Beta": "1"}, "priority": 5}),
    endpoint("eu", match={"prefix": "/shop", "hosts": ["eu.example", "*.eu.example"], "priority": 1}),
    endpoint("vip", match={"prefix": "/users/vip", "priority": 9}),
    endpoint("items", version="v2", match={"prefix": "/v1/things"}),
]

ROUTES = [
    # the old rule: /{version}/{name}, then /{name}
    ("/users", "", "users", "/"),
    ("/users/x", "", "users", "/x"),
    ("/items/x", "", "items", "/items/x"),
    ("/v2/items/x", "", "items", "/items/x"),
    ("/v2/items", "", "items", "/items"),
    ("/v1/items", "", None, ""),
    ("/Users", "", None, ""),
    ("/userss", "", None, ""),
    ("/%75sers/%78", "", "users", "/%78"),
    ("", "", None, ""),
    ("/", "", None, ""),
    ("//users", "", None, ""),
    ("/nobody", "", None, ""),
    # match: the longest prefix, then priority
    ("/v1/things/7", "", "items", "/items/7"),
    ("/shop/orders/1", "", "orders", "/orders/1"),
    ("/shop/orders", "X-Beta: 1", "orders", "/orders"),
    ("/shop/ordersx", "", "wares", "/wares/ordersx"),
    ("/shop//orders/1", "", "orders", "/orders/1"),
    ("/shop?debug", "", "debug", "/debug?debug"),
    ("/shop?debug=1", "X-Beta: 1", "beta", "/beta?debug=1"),
    ("/shop/x", "X-Beta: 2", "wares", "/wares/x"),
    # a name's route comes before any match, and the rest of `match` narrows it, too
    ("/shop/x", "Host: eu.example", "eu", "/eu/x"),
    ("/users/vip", "X-Beta: 1", "users", "/vip"),
    ("/eu/x", "Host: EU.example:8000", "eu", "/eu/x"),
    ("/eu/x", "Host: www.eu.example", "eu", "/eu/x"),
    ("/eu/x", "", None, ""),
    ("/beta", "", None, ""),
    ("/beta", "x-beta: 1", "beta", "/beta"),
]


@pytest.mark.parametrize(("path", "field", "reached", "target"), ROUTES)
async def test_the_route_of_a_request(
    door: Door, path: str, field: str, reached: str | None, target: str
) -> None:
    """Path, then host, method, fields and query choose the endpoint; what matches none is 404."""
    seen: list[Received] = []
    async with door.stage(recording(seen), others=SHOP) as stage:
        answer = await stage.fetch("GET", "/orchestrator" + path, *filter(None, [field]))
        assert answer.values("x-endpoint-id") == ([reached] if reached else [])
        assert [received.target.decode() for received in seen] == ([target] if reached else [])
        assert answer.status == (200 if reached else 404)


@pytest.mark.parametrize(
    ("method", "path", "field", "reached"),
    [
        ("GET", "/w/x", "", "wide"),
        ("POST", "/w/x", "", "posts"),
        ("HEAD", "/w/x", "", "wide"),
        ("GET", "/w/x", "X-Tier: gold", "gold"),
        ("POST", "/w/x", "X-Tier: gold", "gold"),
        ("GET", "/w/x", "Host: a.eu.example", "eu"),
        ("GET", "/w/deep/x", "Host: a.eu.example", "deep"),
    ],
)
async def test_priority_decides_between_equal_prefixes(
    door: Door, method: str, path: str, field: str, reached: str
) -> None:
    """The longest prefix wins whatever the priorities; among equals the highest priority that fits."""
    endpoints = [
        endpoint("wide", match={"prefix": "/w"}),
        endpoint("posts", match={"prefix": "/w", "methods": ["POST"], "priority": 1}),
        endpoint("eu", match={"prefix": "/w", "hosts": ["*.eu.example"], "priority": 2}),
        endpoint("gold", match={"prefix": "/w", "headers": {"X-Tier": "gold"}, "priority": 3}),
        endpoint("deep", match={"prefix": "/w/deep"}),
    ]
    async with door.stage(recording([]), others=endpoints) as stage:
        answer = await stage.fetch(method, "/orchestrator" + path, *filter(None, [field]))
        assert answer.value("x-endpoint-id") == reached


async def test_an_endpoint_without_a_name_is_reached_by_its_match_alone(door: Door) -> None:
    """Its id is made from its url."""
    nameless = {"url": f"{BACKEND}/n", "match": {"prefix": "/n"}}
    async with door.stage(recording([]), others=[nameless]) as stage:
        answer = await stage.fetch("GET", "/orchestrator/n/x")
        assert re.fullmatch("endpoint_[0-9a-f]{12}", answer.value("x-endpoint-id"))


async def test_a_prefix_can_stay_in_the_rest(door: Door) -> None:
    """`strip_prefix: false` forwards what matched, too."""
    seen: list[Received] = []
    kept = {"url": BACKEND, "match": {"prefix": "/api"}, "path": {"strip_prefix": False}}
    async with door.stage(recording(seen), others=[kept]) as stage:
        await stage.fetch("GET", "/orchestrator/api/x")
        assert seen[0].target == b"/api/x"
        assert seen[0].values(b"x-forwarded-prefix") == [b"/orchestrator"]


async def test_the_server_s_prefix_is_configured(door: Door) -> None:
    """Endpoints stand below `server.prefix`."""
    async with door.stage(recording([]), server={"prefix": "/gate/way"}) as stage:
        assert (await stage.fetch("GET", "/gate/way/users/x")).status == 200
        assert (await stage.fetch("GET", "/orchestrator/users/x")).status == 404
        assert (await stage.fetch("GET", "/gate/wayusers/x")).status == 404


# ---- gates --------------------------------------------------------------------------------------------


async def test_a_method_that_the_endpoint_does_not_take(door: Door) -> None:
    """405, with the methods that it does take, HEAD wherever GET is."""
    async with door.stage(endpoint={"methods": ["GET", "DELETE"]}) as stage:
        answer = await stage.fetch("POST", USERS, body=b"x")
        assert answer.status == 405
        assert answer.value("allow") == "DELETE, GET, HEAD"
        assert (await stage.fetch("HEAD", USERS)).status == 200
        assert stage.backend.connections == 1


GATES = [
    ("GET", {"deny": ["127.0.0.1"], "disabled": True}, 403),
    ("GET", {"allow": ["10.0.0.0/8"]}, 403),
    ("GET", {"allow": ["127.0.0.0/8"], "deny": ["127.0.0.1"]}, 403),
    ("GET", {"allow": ["127.0.0.0/8"]}, 200),
    ("DELETE", {"disabled": True, "methods": ["GET"]}, 503),
    ("POST", {"methods": ["GET"], "max_body_bytes": 1}, 405),
    ("POST", {"max_body_bytes": 1}, 413),
    ("POST", {"max_body_bytes": 10}, 200),
]


@pytest.mark.parametrize(("method", "config", "status"), GATES)
async def test_gates_are_asked_in_their_order(
    door: Door, method: str, config: Mapping[str, Any], status: int
) -> None:
    """Address, service, method, body: the first that refuses answers."""
    async with door.stage(endpoint=config) as stage:
        body = b"0123456789" if method == "POST" else None
        assert (await stage.fetch(method, USERS, body=body)).status == status
        assert stage.backend.connections == (status == 200)


async def test_an_operator_s_word_holds_at_once(door: Door) -> None:
    """Disabled and unhealthy endpoints answer 503, `inactive` ones still route."""
    async with door.stage() as stage:
        caller, registry = await stage.connect(), stage.gateway.runtime.registry
        for status, answer in (("disabled", 503), ("unhealthy", 503), ("inactive", 200), ("active", 200)):
            registry.set_status("users", status)  # type: ignore[arg-type]
            assert (await caller.fetch("GET", USERS)).status == answer
        assert stage.backend.connections == 1


# ---- spellings ------------------------------------------------------------------------------------

PIECES = [
    *("pub", "adm", "x", "%61dm", "ad%6d", "ad%6D", "AD%4D", "%2561dm", "adm;", "adm;x", ";adm", "adm%00"),
    *(".", "..", "...", "%2e%2e", ".%2E", "..;", "..;x", "%2e%2e;x", "%3b..", "..%2f", "..%2fadm", "%2fadm"),
    *(
        "%2f",
        "adm%2f",
        "pub%2Fadm",
        "%2e%2e%2fadm",
        "pub%2f..%2fadm",
        "..%5cadm",
        "..\\adm",
        "%5c",
        "\\",
        "%00",
    ),
]
SPELLINGS = st.builds(
    lambda prefix, pieces, end: prefix + "/" + "/".join(pieces) + end,
    st.sampled_from(["/orchestrator"] * 5 + ["/%6Frchestrator", "//orchestrator", "/x/../orchestrator"]),
    st.lists(st.sampled_from([*PIECES, ""]), min_size=1, max_size=5),
    st.sampled_from(["", "", "/", "?adm", "/?x=/../adm"]),
)


def resolved(target: str) -> list[str]:
    """The path's segments as the most obliging backend understands them."""
    path = unquote(target.partition("?")[0], "latin-1").replace("\\", "/").partition("\0")[0]
    segments: list[str] = []
    for segment in (piece.partition(";")[0] for piece in path.split("/")):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return segments


async def check_reach(door: Door, targets: list[str]) -> None:
    seen: list[Received] = []
    public, secret = endpoint("pub"), endpoint("adm", deny=["0.0.0.0/0"])
    async with door.stage(recording(seen), others=[public, secret]) as stage:
        for target in targets:
            answer = await stage.fetch("GET", target)
            assert answer.status in (200, 400, 403, 404)
            if answer.status == 200:
                assert resolved(target)[:2] == ["orchestrator", "pub"]
                assert resolved(seen[-1].target.decode())[:1] == ["pub"]
        assert all(received.target.startswith(b"/pub") for received in seen)


@fault("M1")
@fault("R2")
@pytest.mark.parametrize("name", ["lane", "h2"])
@given(targets=st.lists(SPELLINGS, min_size=5, max_size=20))
@example(targets=["/orchestrator/pub/x", "/orchestrator/pub/..%2fadm"])
@settings(max_examples=20, deadline=None)
def test_no_spelling_reaches_what_its_route_did_not_grant(name: str, targets: list[str]) -> None:
    """What is served below `/pub` is below `/pub` however it is read; `/adm` has its own gate."""
    in_virtual_time(partial(check_reach, Door(name), targets))


@fault("M1")
@pytest.mark.parametrize("spelling", ["/adm", "/%61dm", "/%61%64%6D/", "/adm/x", "/adm//x", "/adm;x"])
async def test_another_spelling_of_a_route_meets_its_own_gate(door: Door, spelling: str) -> None:
    """What only spells the endpoint differently is the endpoint."""
    async with door.stage(others=[endpoint("adm", deny=["0.0.0.0/0"])]) as stage:
        answer = await stage.fetch("GET", "/orchestrator" + spelling)
        assert answer.status == (404 if ";" in spelling else 403)
