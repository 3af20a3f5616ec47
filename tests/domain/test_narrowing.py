from __future__ import annotations

import pytest

from trio_gateway.config.model import MatchConfig
from trio_gateway.domain.fields import RawHeaders
from trio_gateway.domain.narrowing import bare_host, compile_condition, host_keys


def holds(
    match: MatchConfig, method: bytes = b"GET", query: bytes | None = None, headers: RawHeaders | None = None
) -> bool:
    condition = compile_condition(match)
    assert condition is not None
    return condition(method, query, headers or [])


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"Example.COM", b"example.com"),
        (b"example.com.:443", b"example.com"),
        (b"[2001:DB8::1]:80", b"[2001:db8::1]"),
        (b"[::1]", b"[::1]"),
        (b"", b""),
    ],
)
def test_bare_host(authority: bytes, host: bytes) -> None:
    """Case, port and the root's dot make no other host."""
    assert bare_host(authority) == host


def test_host_keys() -> None:
    """A host is found by itself, then by its wildcards, narrowest first."""
    assert list(host_keys(b"a.b.com:80")) == [b"a.b.com", b"*.b.com", b"*.com"]


def test_long_hosts_have_no_wildcards() -> None:
    """A Host longer than a name can be costs one look-up, not one for each of its dots."""
    assert len(list(host_keys(b"a." * 10_000))) == 1


def test_nothing_asked() -> None:
    """A route that only names a prefix and hosts has no condition."""
    assert compile_condition(MatchConfig("/x", hosts=("a.com",), priority=3)) is None


@pytest.mark.parametrize(
    ("method", "expected"), [(b"GET", True), (b"HEAD", True), (b"POST", False), (b"OPTIONS", False)]
)
def test_methods(method: bytes, expected: bool) -> None:
    """HEAD is taken wherever GET is."""
    assert holds(MatchConfig(methods=("GET",)), method) is expected


def test_a_preflight_takes_the_route_it_asks_about() -> None:
    """OPTIONS with Access-Control-Request-Method matches as that method would."""
    asking = [(b"ORIGIN", b"https://a"), (b"ACCESS-CONTROL-REQUEST-METHOD", b"PUT")]
    assert holds(MatchConfig(methods=("PUT",)), b"OPTIONS", headers=asking)
    assert not holds(MatchConfig(methods=("POST",)), b"OPTIONS", headers=asking)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"X-TIER", b"gold"), (b"x-any", b"")], True),
        ([(b"x-tier", b"tin"), (b"x-tier", b"gold"), (b"x-any", b"1")], True),
        ([(b"x-tier", b"Gold"), (b"x-any", b"1")], False),
        ([(b"x-tier", b"gold")], False),
        ([], False),
    ],
)
def test_headers(headers: RawHeaders, expected: bool) -> None:
    """Each field must be there with exactly the value, or with any where `*` is asked."""
    assert holds(MatchConfig(headers={"X-Tier": "gold", "x-any": "*"}), headers=headers) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"v=2&any", True),
        (b"%76=%32&any=1", True),
        (b"v=1&v=2&any=", True),
        (b"v=21&any", False),
        (b"v=2", False),
        (b"", False),
        (None, False),
    ],
)
def test_query(query: bytes | None, expected: bool) -> None:
    """Parameters are compared decoded; one of several values is enough."""
    assert holds(MatchConfig(query={"v": "2", "any": "*"}), query=query) is expected


def test_all_must_hold() -> None:
    """Method, headers and query narrow together."""
    match = MatchConfig(methods=("GET",), headers={"a": "1"}, query={"b": "2"})
    assert holds(match, b"GET", b"b=2", [(b"A", b"1")])
    assert not holds(match, b"PUT", b"b=2", [(b"A", b"1")])
    assert not holds(match, b"GET", b"b=2")
    assert not holds(match, b"GET", None, [(b"A", b"1")])
