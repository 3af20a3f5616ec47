"""Tries that grow out of others: they answer like new ones, and the ones in use don't change."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gateway.config.model import MatchConfig
from trio_gateway.domain.routes import Route, Router
from trio_gateway.domain.trie import Node

T = TypeVar("T")

PATTERNS = [b"/", b"/a", b"/a/b", b"/a/b/c", b"/d"]
HOSTS = ["one", "two", "*.two"]
MATCHES = st.builds(
    MatchConfig,
    hosts=st.lists(st.sampled_from(HOSTS), max_size=2, unique=True).map(tuple),
    methods=st.sampled_from([(), ("GET",), ("POST",)]),
    priority=st.integers(0, 1),
)
ROUTES = st.tuples(st.sampled_from(PATTERNS), st.sampled_from(["name", "match"]), MATCHES)
PLACES = st.lists(ROUTES, max_size=2, unique_by=lambda route: route[:2])
ENDPOINTS = st.dictionaries(st.integers(0, 9), PLACES)
ASKED = [
    (method, b"/x" + path, host)
    for method in (b"GET", b"POST")
    for path in (b"", b"/", b"/a", b"/a/b", b"/a/b/c", b"/a/b/c/d", b"/a/x", b"/d", b"/e")
    for host in (b"one", b"two", b"sub.two", b"other")
]


class Value:
    """An endpoint as the router sees it: told apart by identity."""

    def __init__(self, name: int) -> None:
        self.name = name


Listed = dict[Value, list[Route[Value]]]


def listed(endpoints: dict[int, list[tuple[bytes, str, MatchConfig]]]) -> Listed:
    found: Listed = {}
    for name, routes in endpoints.items():
        value = Value(name)
        found[value] = [Route(value, pattern, kind, match) for pattern, kind, match in routes]  # type: ignore[arg-type]
    return found


def result_of(steps: Generator[None, None, T]) -> tuple[T, int]:
    """What a generator returns, and its number of steps."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def router(endpoints: Listed) -> Router[Value]:
    return Router(b"/x", [route for routes in endpoints.values() for route in routes])


def edited(before: Router[Value], old: Listed, new: Listed) -> tuple[Router[Value], int]:
    return result_of(
        before.edited(
            [route for value, routes in old.items() if value not in new for route in routes],
            [route for value, routes in new.items() if value not in old for route in routes],
            {value: place for place, value in enumerate(new)},
        )
    )


def answers(router: Router[Value]) -> list[tuple[Value, bytes, bytes, bytes] | None]:
    found = [router.match(method, path, None, host, []) for method, path, host in ASKED]
    return [match and (match.value, match.rest, match.prefix, match.pattern) for match in found]


def nodes(node: Node[Value]) -> int:
    return 1 + sum(map(nodes, node.children.values()))


@settings(max_examples=300)
@given(ENDPOINTS, ENDPOINTS, st.sets(st.integers(0, 9)))
def test_an_edited_trie_answers_like_a_new_one(
    one: dict[int, list[tuple[bytes, str, MatchConfig]]],
    two: dict[int, list[tuple[bytes, str, MatchConfig]]],
    changed: set[int],
) -> None:
    """Whatever goes, comes or changes, wherever in the order; and the trie that was in use stays itself."""
    old, fresh = listed(one), listed(two)
    kept = {value: routes for value, routes in old.items() if value.name not in changed}
    names = {value.name for value in kept}
    come = [(value, routes) for value, routes in fresh.items() if value.name not in names]
    half = len(come) // 2
    new = dict([*come[:half], *kept.items(), *come[half:]])
    before = router(old)
    expected = answers(before)
    after, _ = edited(before, old, new)
    assert answers(after) == answers(router(new))
    assert answers(before) == expected
    assert nodes(after._root) == nodes(router(new)._root)


def test_a_change_costs_what_it_changes() -> None:
    """One endpoint among a thousand comes, changes and goes in a few steps."""
    many = listed({n: [(b"/service-%d" % n, "name", MatchConfig())] for n in range(1000)})
    one = listed({1000: [(b"/service-500", "name", MatchConfig(priority=1))]})
    grown, steps = edited(router(many), many, many | one)
    assert steps < 10
    match = grown.match(b"GET", b"/x/service-500", None, b"", [])
    assert match is not None
    assert match.value.name == 1000
    shrunk, steps = edited(grown, many | one, many)
    assert steps < 10
    assert answers(shrunk) == answers(router(many))
    assert nodes(shrunk._root) == nodes(router(many)._root)


def test_a_deep_pattern_is_no_danger_to_the_stack() -> None:
    """A configured prefix may have more segments than Python has frames."""
    deep = listed({1: [(b"/a" * 5000, "match", MatchConfig())]})
    grown, _ = edited(router({}), {}, deep)
    match = grown.match(b"GET", b"/x" + b"/a" * 5001, None, b"", [])
    assert match is not None
    assert match.rest == b"/a"
