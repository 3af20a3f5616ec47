"""The trie behind the router: what stands on a node, and how one trie grows out of another.

A trie that is in use never changes. An edit shares it and copies the nodes on its way, so a change of one
route among ten thousand costs what the route costs. Whoever has begun with the old trie ends with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Generic, Literal, TypeVar

from attrs import Factory, define, evolve

from trio_gateway.domain.narrowing import Condition, host_keys

T = TypeVar("T")
Kind = Literal["name", "match"]


@define(eq=False)
class Rule(Generic[T]):
    """A route as a look-up needs it. `length` is that of `prefix`; no `hosts` means all of them."""

    value: T
    pattern: bytes
    prefix: bytes
    length: int
    rank: tuple[int, int]
    hosts: frozenset[bytes]
    condition: Condition | None


def _rank(rule: Rule[T]) -> tuple[int, int]:
    return rule.rank


@define(eq=False)
class Table(Generic[T]):
    """The rules of one pattern and kind, by rank: `anywhere` on every host, the others by host."""

    anywhere: list[Rule[T]] = Factory(list)
    by_host: dict[bytes, list[Rule[T]]] = Factory(dict)

    @classmethod
    def of(cls, rules: Iterable[Rule[T]]) -> Table[T]:
        """The rules, sorted."""
        table = cls()
        for rule in sorted(rules, key=_rank):
            for host in rule.hosts:
                table.by_host.setdefault(host, []).append(rule)
            if not rule.hosts:
                table.anywhere.append(rule)
        return table

    def candidates(self, host: bytes) -> list[Rule[T]]:
        """Those that apply to a host."""
        if not self.by_host:
            return self.anywhere
        named = [rule for key in host_keys(host) for rule in self.by_host.get(key, ())]
        return sorted([*named, *self.anywhere], key=_rank) if named else self.anywhere


@define(eq=False)
class Node(Generic[T]):
    """A place in the trie. `tables` are those that apply here, the node's own and its ancestors', in order.

    They are the `named` ones, then the `matched` ones. `sure` is the answer where no condition is left.
    """

    children: dict[bytes, Node[T]] = Factory(dict)
    rules: dict[Kind, list[Rule[T]]] = Factory(dict)
    named: tuple[Table[T], ...] = ()
    matched: tuple[Table[T], ...] = ()
    tables: tuple[Table[T], ...] = ()
    sure: Rule[T] | None = None

    def twin(self) -> Node[T]:
        """The same node once more, to be changed."""
        rules = {kind: [*rules] for kind, rules in self.rules.items()}
        return evolve(self, children={**self.children}, rules=rules)

    def settle(self, above: Node[T]) -> None:
        """Make the tables of the node's own rules and put the parent's behind them."""
        own = {kind: (Table.of(rules),) for kind, rules in self.rules.items() if rules}
        self.named = own.get("name", ()) + above.named
        self.matched = own.get("match", ()) + above.matched
        self.tables = self.named + self.matched
        first = self.tables[0] if self.tables else None
        certain = first is not None and not first.by_host and first.anywhere[0].condition is None
        self.sure = first.anywhere[0] if first is not None and certain else None


class Edit(Generic[T]):
    """A trie that grows out of another. `places` order the values now, where all else is equal.

    Values that stay have kept their order among themselves. First all removals, then all additions.
    """

    def __init__(self, root: Node[T], places: Mapping[T, int]) -> None:
        self.root = root.twin()
        self._places = places
        self._ours: set[Node[T] | None] = {self.root}
        self._stale: set[Node[T]] = set()

    def remove(self, path: bytes, kind: Kind, value: T) -> None:
        """Take the rule of `value` away, and the nodes that nobody needs any more."""
        way = self._way(path)
        node = way[-1]
        node.rules[kind] = [rule for rule in node.rules[kind] if rule.value is not value]
        for parent, segment, child in reversed([*zip(way, path.split(b"/"), way[1:], strict=False)]):
            if child.children or any(child.rules.values()):
                break
            del parent.children[segment]

    def add(self, path: bytes, kind: Kind, rule: Rule[T]) -> None:
        """Put a rule at a path."""
        self._way(path)[-1].rules.setdefault(kind, []).append(rule)

    def _way(self, path: bytes) -> list[Node[T]]:
        """The nodes from the root to a path, all ours; the last one's rules are about to change."""
        way = [self.root]
        for segment in path.split(b"/"):
            way.append(self._child(way[-1], segment))
        self._stale.add(way[-1])
        return way

    def _child(self, parent: Node[T], segment: bytes) -> Node[T]:
        known = parent.children.get(segment)
        if known is not None and known in self._ours:
            return known
        child: Node[T] = Node() if known is None else known.twin()
        parent.children[segment] = child
        self._ours.add(child)
        if known is None:
            self._stale.add(child)
        return child

    def finish(self) -> Generator[None, None, int]:
        """Settle what changed and hand it down, in steps; returns how deep that went."""
        level, depth = [self.root], 0
        while level:
            below = []
            for node in level:
                handed_down = node in self._stale
                for segment in [*node.children] if handed_down else node.children:
                    child = self._child(node, segment) if handed_down else node.children[segment]
                    if child not in self._ours:
                        continue
                    below.append(child)
                    if handed_down or child in self._stale:
                        self._stale.add(child)
                        self._settle(child, node)
                    yield
            level, depth = below, depth + 1
        return depth

    def _settle(self, node: Node[T], above: Node[T]) -> None:
        for rules in node.rules.values():
            rules[:] = map(self._ranked, rules)
        node.settle(above)

    def _ranked(self, rule: Rule[T]) -> Rule[T]:
        priority, place = rule.rank
        now = self._places[rule.value]
        return rule if place == now else evolve(rule, rank=(priority, now))
