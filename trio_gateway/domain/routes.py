"""Which endpoint a request belongs to: a trie of path segments, made of the plan's routes.

A lookup walks the trie as deep as the path fits and reads the answer off the last node. Each node
knows, in order of preference, the tables of routes that apply there: its own and its ancestors',
named routes first (the old gateway's rule: `/{version}/{name}`, then `/{name}`), then `match`
prefixes, longest first. Nearly always the first route of the first table has no further condition; the
node then holds it as its `sure` answer. Within a table, routes stand by priority, then in the order of
the file, and those that name hosts are found by host. So the cost depends on the path and on routes
that share one pattern and one host, never on how many routes there are. The same goes for a change.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from copy import copy
from typing import Generic

from attrs import define, frozen

from trio_gateway.config.model import EndpointConfig, MatchConfig
from trio_gateway.domain.fields import RawHeaders
from trio_gateway.domain.narrowing import bare_host, compile_condition
from trio_gateway.domain.target import match_segments, needs_care, raw_rest
from trio_gateway.domain.trie import Edit, Kind, Node, Rule, T, Table
from trio_gateway.errors import BadRequest


@frozen
class Route(Generic[T]):
    """One way to reach `value`: a path `pattern` under the server's prefix, narrowed by `match`.

    Without `strip_prefix` the pattern belongs to the rest, and only the server's prefix is consumed.
    """

    value: T
    pattern: bytes
    kind: Kind
    match: MatchConfig
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
    """An immutable matcher over `routes`, all under `prefix` (`/orchestrator`; empty or "/" for none).

    Where all else is equal, the value whose route comes first is taken.
    """

    def __init__(self, prefix: bytes, routes: Iterable[Route[T]] = ()) -> None:
        self._server = pattern_of(prefix.decode()).rstrip(b"/")
        self._prefix_segments = self._server.count(b"/")
        self._root: Node[T] = Node()
        self._depth = 0
        listed = [*routes]
        places: dict[T, int] = {}
        for route in listed:
            places.setdefault(route.value, len(places))
        for _ in self._grow((), listed, places):
            pass

    def edited(
        self, gone: Iterable[Route[T]], come: Iterable[Route[T]], places: Mapping[T, int]
    ) -> Generator[None, None, Router[T]]:
        """This matcher without the routes that are `gone` and with those that `come`, made in steps.

        `places` are the values' places now. Among the values that stay, none has passed another.
        """
        router = copy(self)
        yield from router._grow(gone, come, places)
        return router

    def _grow(
        self, gone: Iterable[Route[T]], come: Iterable[Route[T]], places: Mapping[T, int]
    ) -> Generator[None, None, None]:
        edit = Edit(self._root, places)
        for route in gone:
            edit.remove(self._path(route), route.kind, route.value)
            yield
        for route in come:
            edit.add(self._path(route), route.kind, self._rule(route, places[route.value]))
            yield
        depth = yield from edit.finish()
        self._root, self._depth = edit.root, max(self._depth, depth)

    def _path(self, route: Route[T]) -> bytes:
        return self._server + route.pattern.rstrip(b"/")

    def _rule(self, route: Route[T], place: int) -> Rule[T]:
        prefix = self._path(route) if route.strip_prefix else self._server
        return Rule(
            value=route.value,
            pattern=route.pattern,
            prefix=prefix,
            length=len(prefix),
            rank=(-route.match.priority, place),
            hosts=frozenset(bare_host(host.encode()) for host in route.match.hosts),
            condition=compile_condition(route.match),
        )

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

    def _tables(self, segments: list[bytes]) -> tuple[Table[T], ...]:
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


def _choose(
    tables: tuple[Table[T], ...], method: bytes, query: bytes | None, host: bytes, headers: RawHeaders
) -> Rule[T] | None:
    for table in tables:
        for rule in table.candidates(host):
            if rule.condition is None or rule.condition(method, query, headers):
                return rule
    return None
