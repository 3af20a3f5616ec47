from __future__ import annotations

import sys
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.model import EndpointConfig, MatchConfig
from trio_gateway.domain.fields import RawHeaders
from trio_gateway.domain.routes import Match, Route, Router, pattern_of, routes_of
from trio_gateway.errors import BadRequest


def endpoint(
    name: str | None = None, version: str | None = None, match: MatchConfig | None = None
) -> EndpointConfig:
    return EndpointConfig("http://backend/", name, version, match=match or MatchConfig())


def router(*endpoints: EndpointConfig, prefix: bytes = b"/orchestrator") -> Router[int]:
    """A router whose values are the endpoints' places."""
    return Router(
        prefix,
        [
            Route(order, pattern, kind, config.match)
            for order, config in enumerate(endpoints)
            for pattern, kind in routes_of(config)
        ],
    )


def find(
    routes: Router[int],
    path: bytes,
    method: bytes = b"GET",
    query: bytes | None = None,
    host: bytes = b"gateway",
    headers: RawHeaders | None = None,
) -> Match[int] | None:
    return routes.match(method, path, query, host, headers or [])


def value(match: Match[int] | None) -> int | None:
    return None if match is None else match.value


@pytest.mark.parametrize(
    ("config", "patterns"),
    [
        (endpoint(), []),
        (endpoint("users"), [(b"/users", "name")]),
        (endpoint("users", "v1"), [(b"/users", "name"), (b"/v1/users", "name")]),
        (endpoint(match=MatchConfig("/")), [(b"/", "match")]),
        (endpoint("a", match=MatchConfig("/api/")), [(b"/a", "name"), (b"/api", "match")]),
    ],
)
def test_routes_of(config: EndpointConfig, patterns: list[tuple[bytes, str]]) -> None:
    """A name, a version and a prefix each add their pattern; a nameless endpoint has none by name."""
    assert routes_of(config) == patterns


@pytest.mark.parametrize(
    ("path", "pattern"),
    [("/", b"/"), ("", b"/"), ("users", b"/users"), ("/a/b/", b"/a/b"), ("/%7ea/@b", b"/~a/@b")],
)
def test_pattern_of(path: str, pattern: bytes) -> None:
    """Configured paths have the spelling in which targets are matched."""
    assert pattern_of(path) == pattern


OLD = router(endpoint("users", "v1"), endpoint("orders"), endpoint("v1"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/orchestrator/users", (0, b"", b"/orchestrator/users", b"/users")),
        (b"/orchestrator/users/", (0, b"/", b"/orchestrator/users", b"/users")),
        (b"/orchestrator/users/7//x", (0, b"/7//x", b"/orchestrator/users", b"/users")),
        (b"/orchestrator/v1/users/7", (0, b"/7", b"/orchestrator/v1/users", b"/v1/users")),
        (b"/orchestrator/v1//users/7", (0, b"/7", b"/orchestrator/v1//users", b"/v1/users")),
        (b"/orchestrator/v1/orders", (2, b"/orders", b"/orchestrator/v1", b"/v1")),
        (b"/orchestrator/orders/users", (1, b"/users", b"/orchestrator/orders", b"/orders")),
        (b"/%6frchestrator/%75sers/%2E", None),
        (b"/orchestrator/%75sers/%2Fa", (0, b"/%2Fa", b"/orchestrator/%75sers", b"/users")),
    ],
)
def test_old_rule(path: bytes, expected: tuple[int, bytes, bytes, bytes] | None) -> None:
    """`/{version}/{name}`, else `/{name}`; prefix and rest are the raw bytes of the target."""
    if expected is None:
        with pytest.raises(BadRequest):
            find(OLD, path)
    else:
        assert find(OLD, path) == Match(*expected)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/users",
        b"/orchestrator",
        b"/orchestrator/",
        b"/orchestrator//users",
        b"//orchestrator/users",
        b"/orchestrator/userss",
        b"/orchestrator/user",
        b"/orchestrator/Users",
        b"/orchestrator%2Fusers",
        b"/orchestrator/users%2Fx",
        b"/orchestratorusers",
    ],
)
def test_no_route(path: bytes) -> None:
    """Only whole segments in their own case under the prefix match, and the first is never empty."""
    assert find(OLD, path) is None


@pytest.mark.parametrize(("prefix", "before"), [(b"/", b""), (b"", b""), (b"/a/b", b"/a/b")])
def test_server_prefix(prefix: bytes, before: bytes) -> None:
    """Any depth of server prefix works, none included."""
    routes = router(endpoint("users"), endpoint(match=MatchConfig("/")), prefix=prefix)
    assert find(routes, before + b"/users/7") == Match(0, b"/7", before + b"/users", b"/users")
    assert find(routes, before + b"/other") == Match(1, b"/other", before, b"/")
    assert find(routes, before + b"/") == Match(1, b"/", before, b"/")
    assert find(routes, before + b"//users") is None


@pytest.mark.parametrize("path", [b"/users/7", b"/%75sers//7"])
def test_kept_prefix(path: bytes) -> None:
    """Without `strip_prefix` the rest begins behind the server's prefix."""
    routes = Router(b"/orchestrator", [Route(0, b"/users", "name", MatchConfig(), strip_prefix=False)])
    assert find(routes, b"/orchestrator" + path) == Match(0, path, b"/orchestrator", b"/users")


def test_names_before_prefixes_and_longest_prefix_first() -> None:
    """A name beats every `match` prefix; among prefixes length beats priority, priority the file's order."""
    routes = router(
        endpoint(match=MatchConfig("/users/deep", priority=9)),
        endpoint(match=MatchConfig("/api", priority=1)),
        endpoint(match=MatchConfig("/api", priority=2)),
        endpoint(match=MatchConfig("/api/v2")),
        endpoint(match=MatchConfig("/api", priority=2)),
        endpoint("users"),
    )
    assert value(find(routes, b"/orchestrator/users/deep/x")) == 5
    assert value(find(routes, b"/orchestrator/api/v2/x")) == 3
    assert value(find(routes, b"/orchestrator/api/v22")) == 2


NARROWED = router(
    endpoint(match=MatchConfig("/", hosts=("A.example.com",))),
    endpoint(match=MatchConfig("/", hosts=("*.example.com",), methods=("GET",))),
    endpoint(match=MatchConfig("/", methods=("POST",), priority=1)),
    endpoint(match=MatchConfig("/", headers={"X-Beta": "*", "X-Tier": "gold"})),
    endpoint(match=MatchConfig("/", query={"v": "2", "any": "*"})),
    endpoint("users", match=MatchConfig(hosts=("[::1]",))),
    endpoint(match=MatchConfig("/users/open")),
)


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        (0, {"host": b"a.EXAMPLE.com.:8000"}),
        (1, {"host": b"b.c.example.com"}),
        (1, {"host": b"b.example.com", "method": b"HEAD"}),
        (None, {"host": b"example.com"}),
        (None, {"host": b"b.example.com", "method": b"PUT"}),
        (2, {"method": b"POST", "host": b"a.example.com"}),
        (2, {"method": b"OPTIONS", "headers": [(b"access-Control-Request-Method", b"POST")]}),
        (None, {"method": b"OPTIONS"}),
        (3, {"headers": [(b"x-tier", b"tin"), (b"x-tier", b"gold"), (b"X-BETA", b"")]}),
        (None, {"headers": [(b"x-tier", b"golden"), (b"x-beta", b"1")]}),
        (4, {"query": b"v=1&%76=2&any"}),
        (None, {"query": b"v=2"}),
        (None, {"host": b"a." * 200 + b"example.com"}),
        (None, {}),
    ],
)
def test_narrowing(expected: int | None, request_: dict[str, object]) -> None:
    """Hosts, methods, headers and query narrow a route; what fails them goes on to the next."""
    assert value(find(NARROWED, b"/orchestrator/x", **request_)) == expected  # type: ignore[arg-type]


def test_narrowed_names_fall_through() -> None:
    """`match` narrows the name's route too, and then the prefixes get their turn."""
    assert value(find(NARROWED, b"/orchestrator/users/open", host=b"[::1]:80")) == 5
    assert value(find(NARROWED, b"/orchestrator/users/open")) == 6


ADM = router(endpoint("adm"), endpoint(match=MatchConfig("/")), endpoint("pub"))
_letters = [
    st.sampled_from([bytes([octet]), b"%%%02x" % octet, b"%%%02X" % octet, b"%25" + b"%02x" % octet])
    for octet in b"adm"
]
_noise = st.lists(
    st.sampled_from(
        [b"/", b"%2f", b"%2F", b".", b"%2e", b"..", b"%5c", b"\\", b";x", b"pub", b"%00", b"/..", b"/%2e%2E/"]
    ),
    max_size=6,
).map(b"".join)


@given(_noise, st.tuples(*_letters).map(b"".join), _noise)
def test_no_spelling_of_adm_reaches_another_route(before: bytes, name: bytes, after: bytes) -> None:
    """A target that decodes to `/adm`, dot segments resolved, is refused, unrouted, or `/adm`'s own."""
    path = b"/orchestrator/" + before + name + after
    resolved: list[bytes] = []
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        bare = segment.partition(b";")[0] if segment.startswith(b".") else segment
        if bare == b"..":
            del resolved[-1:]
        elif bare not in (b"", b"."):
            resolved.append(segment)
    try:
        found = find(ADM, path)
    except BadRequest:
        return
    if resolved[:2] == [b"orchestrator", b"adm"]:
        assert value(found) in (None, 0)
    if resolved[:2] != [b"orchestrator", b"adm"]:
        assert value(found) != 0


def test_encoded_slashes_do_not_hide_a_deeper_route() -> None:
    """An encoded slash in another route's rest passes; one that decodes into a route's path is refused."""
    routes = router(endpoint(match=MatchConfig("/")), endpoint(match=MatchConfig("/a/b")))
    assert find(routes, b"/orchestrator/x%2fy") == Match(0, b"/x%2fy", b"/orchestrator", b"/")
    assert find(routes, b"/orchestrator/a/b/c%2fd") == Match(1, b"/c%2fd", b"/orchestrator/a/b", b"/a/b")
    for path in (b"/orchestrator/a%2fb", b"/orchestrator/a%2Fb%2fc", b"/orchestrator/%2fa/b"):
        with pytest.raises(BadRequest):
            find(routes, path)


@pytest.mark.parametrize("hosts", [False, True])
def test_cost_does_not_depend_on_the_number_of_routes(hosts: bool) -> None:
    """The same number of executed lines finds a route among 10 and among 5 000."""
    assert _calls(10, hosts) == _calls(5000, hosts)


def _calls(count: int, hosts: bool) -> int:
    def config(at: int) -> EndpointConfig:
        return (
            endpoint(match=MatchConfig("/", hosts=(f"h{at}.example.com",))) if hosts else endpoint(f"n{at}")
        )

    routes = router(*map(config, range(count)))
    seen = 0

    def count_line(frame: object, event: str, _arg: object) -> object:
        nonlocal seen
        seen += 1
        return count_line

    before = sys.gettrace()
    sys.settrace(count_line)  # type: ignore[arg-type]
    try:
        found = find(routes, b"/orchestrator/n7/x", host=b"h7.example.com")
    finally:
        sys.settrace(before)
    assert value(found) == 7
    return seen
