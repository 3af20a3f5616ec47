"""Why a request takes the route it takes."""

from __future__ import annotations

import pytest

from tests.cli.test_explanation import asked, loaded
from tests.support.client import request
from trio_gateway.cli.explanation import Question, explain
from trio_gateway.cli.reasons import narrowing_of, text_of
from trio_gateway.config.model import EndpointConfig, MatchConfig


@pytest.mark.parametrize(
    ("target", "endpoint", "why", "consumed", "rest"),
    [
        ("/orchestrator/users/7", "users", "name users", "/orchestrator/users", "/7"),
        ("/orchestrator/v1/users", "users", "version v1 and name users", "/orchestrator/v1/users", ""),
        ("/orchestrator//users/7", None, "", "", ""),
        ("/orchestrator/m/n/o", "http://backend.example/q", "match.prefix /m/n", "/orchestrator/m/n", "/o"),
        ("/orchestrator/m/x", "http://backend.example/r", "match.prefix /m", "/orchestrator", "/m/x"),
    ],
)
def test_the_route(target: str, endpoint: str | None, why: str, consumed: str, rest: str) -> None:
    """Which endpoint it is, by which rule, and what of the path is left for the backend."""
    route = asked(target).route
    if endpoint is None:
        assert route is None
        return
    assert route is not None
    url = {config.id: config.url for config in loaded().config.endpoints}[route.endpoint]
    assert endpoint in (route.endpoint, url)
    assert (route.why, route.consumed, route.rest) == (why, consumed, rest)


def reasons(target: str, *headers: str) -> list[str]:
    route = asked(target, *headers).route
    assert route is not None
    return [reason.partition(": ")[2] for reason in route.passed_over]


def test_what_was_passed_over_and_why() -> None:
    """Endpoints that fit too are named with the rule that put them behind."""
    assert reasons("/orchestrator/users") == []
    assert reasons("/orchestrator/users/admin") == ["a name comes before a match.prefix"]
    assert reasons("/orchestrator/users/admin", "X-Beta: 1") == ["a name comes before a match.prefix"] * 2
    assert reasons("/orchestrator/m/n") == ["/m is shorter"]


MATCHES = """
endpoints:
  - {url: "http://a/", match: {prefix: /x, headers: {X-A: "*"}}}
  - {url: "http://b/", match: {prefix: /x}}
  - {url: "http://c/", match: {prefix: /x, priority: -1, headers: {X-C: "*"}}}
"""


def test_priority_and_the_order_of_the_file_are_reasons_too() -> None:
    """Among equal prefixes the highest priority wins, then who stands first."""
    found = explain(loaded(MATCHES), Question(request("/orchestrator/x", "X-A: 1", "X-C: 1"), "127.0.0.1"))
    assert found.route is not None
    assert found.route.why == "match.prefix /x, narrowed by headers"
    assert [reason.partition(": ")[2] for reason in found.route.passed_over] == [
        "it stands later in the file",
        "its match.priority is lower",
    ]


def test_an_endpoint_that_only_narrowing_keeps_away_is_named() -> None:
    """Without a route the answer says whose hosts, methods, headers or query did not fit."""
    found = asked("/orchestrator/only/x", method="POST")
    assert found.answered is not None
    assert (found.answered.status, found.answered.code) == (404, "route_not_found")
    (hint,) = found.hints
    assert hint.endswith("fits the path, but not by its hosts, methods")
    assert asked("/orchestrator/nothing").hints == ()


def test_narrowing_is_what_asks_beyond_the_path() -> None:
    """A prefix and a priority narrow nothing."""
    config = EndpointConfig("http://a/", match=MatchConfig("/x", ("a",), ("GET",), {"a": "b"}, {"c": "d"}, 3))
    assert narrowing_of(config) == ["hosts", "methods", "headers", "query"]
    assert narrowing_of(EndpointConfig("http://a/", match=MatchConfig("/x", priority=3))) == []


def test_bytes_of_a_head_can_be_shown() -> None:
    """What is not ASCII is escaped, never lost."""
    assert text_of(b"/a\xff") == "/a\\xff"
