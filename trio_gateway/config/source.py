"""YAML text to a small tree of values that know where they stand.

One compose pass gives values and positions together. PyYAML's own constructors are not used: what a
scalar means is for the field that reads it to say (`version: 1.10` is a text, `017` a seventeen), so a
scalar keeps its text, and its YAML 1.1 tag only for free data. Everything that YAML allows and a config
must not contain is settled here, once for the whole file: duplicate keys, foreign tags, merge keys,
variables, aliases that contain themselves or multiply without end, and nesting deep enough to overrun
the C stack of libyaml's composer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import yaml
from attrs import define, field, frozen
from yaml.composer import ComposerError
from yaml.reader import Reader, ReaderError

from trio_gateway.config.environ import expand
from trio_gateway.config.problems import Findings, Path

_TAG = "tag:yaml.org,2002:"
NULL = _TAG + "null"
STR = _TAG + "str"
BROKEN = "broken"
"""The tag of a scalar whose mistake has been told: it has no value, and nothing more is said about it."""

_MERGE = _TAG + "merge"
_SCALARS = frozenset(
    _TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
_DEEPEST = 64
_TOO_DEEP = f"nested deeper than {_DEEPEST} levels"
_FREE_REPEATS = 100_000  # values that aliases may repeat in any file; a larger file may repeat more

_Loader: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@define(eq=False)
class Text:
    """A scalar: its text after expansion, and as it is written in the file."""

    text: str
    written: str
    tag: str
    line: int
    col: int
    weight: int = 1

    @property
    def from_environment(self) -> bool:
        """Whether any of it came from outside the file, and may be a secret."""
        return "${" in self.written


@define(eq=False)
class Items:
    """A sequence."""

    items: list[Value]
    line: int
    col: int
    weight: int = 1


class Entry(NamedTuple):
    """A key's place and its value."""

    line: int
    col: int
    value: Value


class Written(NamedTuple):
    """How an endpoint is written: two that are equal mean the same, wherever they stand."""

    inherited: str
    col: int
    text: str


@define(eq=False)
class Table:
    """A mapping with merge keys resolved. Compared and hashed by identity: one place in the file."""

    entries: dict[str, Entry] = field(factory=dict)
    line: int = 1
    col: int = 1
    weight: int = 1
    written: Written | None = None
    """Of an endpoint; None where what it means is not said by its text alone."""


@define(eq=False)
class Recalled(Table):
    """An endpoint that is written as one which was read before: `read` is what that became."""

    read: Any = None


@frozen
class Recall:
    """What is remembered of earlier readings. `inherited` are the root's keys that endpoints inherit."""

    inherited: frozenset[str] = frozenset()
    endpoints: Mapping[Written, Any] = field(factory=dict)


Value: TypeAlias = Text | Items | Table


def is_null(value: Value) -> bool:
    """Whether the file says null, `~` or nothing."""
    return isinstance(value, Text) and value.tag == NULL


def read_source(
    text: str, environ: Mapping[str, str], findings: Findings, recall: Recall | None = None
) -> Table:
    """The root mapping of `text`; an empty one when the file is empty or cannot be parsed.

    Endpoints that are written as ones in `recall` come as `Recalled`.
    """
    root = _compose(text, findings)
    if root is None:
        return Table()
    value = _Builder(text, environ, findings, recall or Recall(), max(_FREE_REPEATS, len(text))).root(root)
    if isinstance(value, Table):
        return value
    if not is_null(value):
        findings.error(value.line, value.col, (), "must be a mapping of keys, for example `endpoints:`")
    return Table()


# ---- text to nodes -------------------------------------------------------------------------------


class _ShallowLoader(_Loader):  # type: ignore[misc, valid-type]
    """Refuses deep nesting before it overruns the stack: libyaml's composer recurses without a limit."""

    depth = 0

    def descend_resolver(self, current_node: yaml.Node | None, _index: object) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = current_node.start_mark if current_node else None
            raise ComposerError(None, None, _TOO_DEEP, mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


def _compose(text: str, findings: Findings) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_ShallowLoader)
    except ReaderError as error:
        findings.error(*_unprintable(text), (), f"not a valid YAML file: {error.reason}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        sentence = ", ".join(part for part in (error.context, error.problem) if part)
        if "maximum nesting depth" in sentence:  # libyaml's scanner runs ahead, with a limit of its own
            sentence = _TOO_DEEP
        findings.error(*place, (), f"not a valid YAML file: {sentence}")
    except (yaml.YAMLError, ValueError) as error:  # ValueError: lone surrogates, absurd version numbers
        findings.error(1, 1, (), f"not a valid YAML file: {error.__class__.__name__}")
    return None


def _unprintable(text: str) -> tuple[int, int]:
    """Line and column of the first character that YAML forbids."""
    found = Reader.NON_PRINTABLE.search(text)
    before = text[: found.start()] if found else ""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


# ---- nodes to values ------------------------------------------------------------------------------


class _RunawayAliasesError(Exception):
    """The aliases repeat more values than any honest file does."""


_FOREIGN = re.compile(r"(?:^|[\s\[{,])[*!]\S")


def _says_all(text: str) -> bool:
    """Whether a piece of YAML has no alias and no tag, whose meaning stands elsewhere.

    Some texts in quotes look like one, which does no harm.
    """
    return ("*" not in text and "!" not in text) or not _FOREIGN.search(text)


@define
class _Builder:
    source: str
    environ: Mapping[str, str]
    findings: Findings
    recall: Recall
    allowance: int
    inherited: str | None = None
    seen: dict[int, Value | None] = field(factory=dict)

    def root(self, node: yaml.Node) -> Value:
        if isinstance(node, yaml.MappingNode):
            self.inherited = self.text_inherited(node)
        try:
            return self.value(node, ())
        except _RunawayAliasesError:
            self.findings.error(1, 1, (), "its aliases (`*name`) repeat too many values")
            return Table()

    def value(self, node: yaml.Node, path: Path) -> Value:
        if isinstance(node, yaml.ScalarNode):
            return self.text(node, path)
        if id(node) in self.seen:
            return self.repeated(node, path)
        self.seen[id(node)] = None  # open: an alias that meets it contains itself
        value = self.table(node, path) if isinstance(node, yaml.MappingNode) else self.items(node, path)
        self.seen[id(node)] = value
        return value

    def repeated(self, node: yaml.Node, path: Path) -> Value:
        """What an alias stands for: the same object again, charged with all the values inside."""
        value = self.seen[id(node)]
        if value is None:
            return self.broken(node, path, "this alias contains itself")
        self.allowance -= value.weight
        if self.allowance < 0:
            raise _RunawayAliasesError
        return value

    def text(self, node: yaml.ScalarNode, path: Path) -> Text:
        mark, text = node.start_mark, node.value
        if node.tag not in _SCALARS:
            return self.broken(node, path, f"the tag {node.tag} is not supported")
        if "$" not in text:
            return Text(text, text, node.tag, mark.line + 1, mark.column + 1)
        try:
            return Text(expand(text, self.environ), text, STR, mark.line + 1, mark.column + 1)
        except ValueError as error:
            return self.broken(node, path, str(error))

    def items(self, node: yaml.Node, path: Path) -> Value:
        if node.tag != _TAG + "seq":
            return self.broken(node, path, f"the tag {node.tag} is not supported")
        build = self.endpoint if path == ("endpoints",) else self.value
        items = [build(item, (*path, index)) for index, item in enumerate(node.value)]
        weight = 1 + sum(item.weight for item in items)
        return Items(items, node.start_mark.line + 1, node.start_mark.column + 1, weight)

    def table(self, node: yaml.MappingNode, path: Path) -> Value:
        if node.tag != _TAG + "map":
            return self.broken(node, path, f"the tag {node.tag} is not supported")
        entries: dict[str, Entry] = {}
        inherited: list[Table] = []
        for key, item in node.value:
            if key.tag == _MERGE:
                inherited += self.bases(item, path)
            elif not isinstance(key, yaml.ScalarNode):
                self.broken(key, path, "a key must be a plain text")
            elif key.value in entries:
                first = entries[key.value].line
                self.broken(key, (*path, key.value), f"given twice in one mapping, first in line {first}")
            else:
                value = self.value(item, (*path, key.value))
                entries[key.value] = Entry(key.start_mark.line + 1, key.start_mark.column + 1, value)
        for base in inherited:
            entries = base.entries | entries
        weight = 1 + sum(entry.value.weight for entry in entries.values())
        return Table(entries, node.start_mark.line + 1, node.start_mark.column + 1, weight)

    def endpoint(self, node: yaml.Node, path: Path) -> Value:
        """One item of `endpoints`, unless it is remembered."""
        text = self.text_of(node, node)
        if self.inherited is None or not _says_all(text):
            return self.value(node, path)
        written = Written(self.inherited, node.start_mark.column, text)
        if written in self.recall.endpoints:
            line, col = node.start_mark.line + 1, node.start_mark.column + 1
            return Recalled(line=line, col=col, written=written, read=self.recall.endpoints[written])
        value = self.value(node, path)
        if isinstance(value, Table):
            value.written = written
        return value

    def text_inherited(self, root: yaml.MappingNode) -> str | None:
        """The text of all that endpoints inherit; None where it does not say all."""
        texts = [
            self.text_of(key, value)
            for key, value in root.value
            if isinstance(key, yaml.ScalarNode) and (key.tag == _MERGE or key.value in self.recall.inherited)
        ]
        return "\0".join(texts) if all(map(_says_all, texts)) else None

    def text_of(self, first: yaml.Node, last: yaml.Node) -> str:
        """The file's text from the start of one node to the end of another."""
        return self.source[first.start_mark.index : last.end_mark.index]

    def bases(self, node: yaml.Node, path: Path) -> list[Table]:
        """What `<<` names: one mapping or a list of them, the first of which wins."""
        value = self.value(node, path)
        bases = value.items if isinstance(value, Items) else [value]
        if not all(isinstance(base, Table) for base in bases):
            self.broken(node, path, "`<<` takes a mapping or a list of mappings")
        return [base for base in bases if isinstance(base, Table)]

    def broken(self, node: yaml.Node, path: Path, message: str) -> Text:
        line, col = node.start_mark.line + 1, node.start_mark.column + 1
        self.findings.error(line, col, path, message)
        return Text("", "", BROKEN, line, col)
