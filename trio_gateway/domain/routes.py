"""Which endpoint a request belongs to: a trie of path segments, compiled from the plan's routes.

A lookup walks the trie as deep as the path fits and reads the answer off the last node. Each node
knows, in order of preference, the tables of routes that apply there: its own and its ancestors',
named routes first (the old gateway's rule: `/{version}/{name}`, then `/{name}`), then `match`
prefixes, longest first. Nearly always the first route of the first table has no further condition; the
node then holds it as its `sure` answer. Within a table, routes stand by priority, then in the order of
the file, and those that name hosts are found by host. So the cost depends on the path and on routes
that share one pattern and one host, never on how many routes there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, TypeVar

from attrs import Factory, define, frozen

from trio_gateway.config.model import EndpointConfig, MatchConfig
from trio_gateway.domain.fields import RawHeaders
from trio_gateway.domain.narrowing import Condition, bare_host, compile_condition, host_keys
from trio_gateway.domain.target import match_segments, needs_care, raw_rest
from trio_gateway.errors import BadRequest

T = TypeVar("T")
Kind = Literal["name", "match"]


@frozen
class Route(Generic[T]):
    """One way to reach `value`: a path `pattern` under the server's prefix, narrowed by `match`.

    `order` is the endpoint's place in the file; it decides where all else is equal. Without `strip_prefix`
    the pattern belongs to the rest, and only the server's prefix is consumed.
    """

    value: T
    pattern: bytes
    kind: Kind
    match: MatchConfig
    order: int
    strip_prefix: bool = True


@define
class Match(Generic[T]):
    """An answer: `prefix` is the raw path consumed (the server's prefix included), `rest` the raw rest."""

    value: T
    rest: bytes
    prefix: bytes
    pattern: bytes


def routes_of(endpoint: EndpointConfig) -> list[tuple[bytes, Kind]]:
    """The patterns that lead to an endpoint: `/name`, `/version/name`, and its `match.prefix`."""
    found: list[tuple[bytes, Kind]] = []
    if endpoint.name is not None:
        found.append((pattern_of(endpoint.name), "name"))
    if endpoint.name is not None and endpoint.version is not None:
        found.append((pattern_of(f"{endpoint.version}/{endpoint.name}"), "name"))
    if endpoint.match.prefix is not None:
        found.append((pattern_of(endpoint.match.prefix), "match"))
    return found


def pattern_of(path: str) -> bytes:
    """A configured path as a pattern: canonical, with a slash before it and none behind it ("/" stays)."""
    segments = match_segments(b"/" + path.strip("/").encode())
    return b"/" + b"/".join(filter(None, segments))


class Router(Generic[T]):
    """An immutable matcher over `routes`, all under `prefix` (`/orchestrator`; empty or "/" for none)."""

    def __init__(self, prefix: bytes, routes: Iterable[Route[T]]) -> None:
        server = pattern_of(prefix.decode()).rstrip(b"/")
        self._prefix_segments = server.count(b"/")
        self._root: _Node[T] = _Node()
        for route in routes:
            _insert(self._root, server, route)
        self._depth = _finish(self._root)

    def match(
        self, method: bytes, path: bytes, query: bytes | None, host: bytes, headers: RawHeaders
    ) -> Match[T] | None:
        """The route that a request takes, or None.

        None too for an empty first segment after the server's prefix. BadRequest as `match_segments`
        says, and where an encoded slash, once decoded, would lead to another route. `host` is an
        authority; it is compared without port and case.
        """
        if needs_care(path):
            return self._match_with_care(method, path, query, host, headers)
        node = self._root
        for segment in path.split(b"/", self._depth):
            child = node.children.get(segment)
            if child is None:
                break
            node = child
        rule = node.sure or _choose(node.tables, method, query, host, headers)
        if rule is None:
            return None
        return Match(rule.value, path[rule.length :], rule.prefix, rule.pattern)

    def _match_with_care(
        self, method: bytes, path: bytes, query: bytes | None, host: bytes, headers: RawHeaders
    ) -> Match[T] | None:
        segments = match_segments(path)
        rule = _choose(self._tables(segments), method, query, host, headers)
        if rule is None or raw_rest(path, self._prefix_segments).startswith(b"//"):
            return None
        other = _choose(self._tables(_slashes_decoded(segments)), method, query, host, headers)
        if other not in (rule, None):
            raise BadRequest("An encoded slash makes the path ambiguous")
        rest = raw_rest(path, rule.prefix.count(b"/"))
        return Match(rule.value, rest, path[: len(path) - len(rest)], rule.pattern)

    def _tables(self, segments: list[bytes]) -> tuple[_Table[T], ...]:
        node = self._root
        for segment in segments:
            child = node.children.get(segment)
            if child is None:
                break
            node = child
        return node.tables


def _slashes_decoded(segments: list[bytes]) -> list[bytes]:
    """The path as a backend sees it that decodes `%2F` first: it must not lead to another route."""
    return [b"", *filter(None, b"/".join(segments).replace(b"%2F", b"/").split(b"/"))]


@define(eq=False)
class _Rule(Generic[T]):
    value: T
    pattern: bytes
    prefix: bytes
    length: int
    rank: tuple[int, int]
    condition: Condition | None


@define(eq=False)
class _Table(Generic[T]):
    """The routes of one pattern and kind, by rank: `anywhere` on every host, the others by host."""

    anywhere: list[_Rule[T]] = Factory(list)
    by_host: dict[bytes, list[_Rule[T]]] = Factory(dict)

    def candidates(self, host: bytes) -> list[_Rule[T]]:
        if not self.by_host:
            return self.anywhere
        named = [rule for key in host_keys(host) for rule in self.by_host.get(key, ())]
        return sorted([*named, *self.anywhere], key=_rank) if named else self.anywhere


@define(eq=False)
class _Node(Generic[T]):
    children: dict[bytes, _Node[T]] = Factory(dict)
    own: dict[Kind, _Table[T]] = Factory(dict)
    named: tuple[_Table[T], ...] = ()
    matched: tuple[_Table[T], ...] = ()
    tables: tuple[_Table[T], ...] = ()
    sure: _Rule[T] | None = None


def _rank(rule: _Rule[T]) -> tuple[int, int]:
    return rule.rank


def _insert(root: _Node[T], server: bytes, route: Route[T]) -> None:
    path = server + route.pattern.rstrip(b"/")
    node = root
    for segment in path.split(b"/"):
        node = node.children.setdefault(segment, _Node())
    prefix = path if route.strip_prefix else server
    rank = (-route.match.priority, route.order)
    rule = _Rule(route.value, route.pattern, prefix, len(prefix), rank, compile_condition(route.match))
    table = node.own.setdefault(route.kind, _Table())
    for key in {bare_host(host.encode()) for host in route.match.hosts}:
        table.by_host.setdefault(key, []).append(rule)
    if not route.match.hosts:
        table.anywhere.append(rule)


def _finish(root: _Node[T]) -> int:
    """Sort every table, hand the ancestors' tables down, and return the trie's depth."""
    level, depth = [root], -1
    while level:
        depth += 1
        for node in level:
            _settle(node)
            for child in node.children.values():
                child.named, child.matched, child.tables = node.named, node.matched, node.tables
        level = [child for node in level for child in node.children.values()]
    return depth


def _settle(node: _Node[T]) -> None:
    for table in node.own.values():
        for rules in (table.anywhere, *table.by_host.values()):
            rules.sort(key=_rank)
    if node.own:
        node.named = (*filter(None, [node.own.get("name")]), *node.named)
        node.matched = (*filter(None, [node.own.get("match")]), *node.matched)
        node.tables = node.named + node.matched
    if node.tables and not node.tables[0].by_host and node.tables[0].anywhere[0].condition is None:
        node.sure = node.tables[0].anywhere[0]


def _choose(
    tables: tuple[_Table[T], ...], method: bytes, query: bytes | None, host: bytes, headers: RawHeaders
) -> _Rule[T] | None:
    for table in tables:
        for rule in table.candidates(host):
            if rule.condition is None or rule.condition(method, query, headers):
                return rule
    return None
