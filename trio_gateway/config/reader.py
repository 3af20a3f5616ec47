"""One reader for the whole model: a class's annotations say how each of its fields is read.

A reader is derived once per type and cached: a parsed scalar (`Annotated[..., parser]`), a choice
(`Literal`), a list, a mapping, free data, or another block. Nothing stops at a mistake; what cannot be
read is told and left at its default. A block that many endpoints inherit is one object in the source
tree, is read once and shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import yaml
from yaml.constructor import SafeConstructor

from trio_gateway.config.problems import NOT_AVAILABLE, Findings, Path, did_you_mean
from trio_gateway.config.reserved import RESERVED_KEYS, RESERVED_WORDS
from trio_gateway.config.source import BROKEN, STR, Entry, Items, Table, Text, Value, is_null
from trio_gateway.config.values import boolean, integer, number, plain_text

Read = Callable[["Reader", Value, Path], Any]
T = TypeVar("T")

FAILED: Any = object()
"""What a read returns after it has told a problem."""

_FACTORY: Any = attrs.Factory  # a class, though its stub says that it is a function
_PLAIN: dict[Any, Callable[[str], Any]] = {bool: boolean, int: integer, float: number, str: plain_text}


@attrs.define
class Reader:
    """Reads blocks of one file and writes what is wrong into `findings`."""

    findings: Findings
    _blocks: dict[tuple[type, Table], Any] = attrs.field(factory=dict)

    def block(self, cls: type[T], value: Value, path: Path) -> T | None:
        """An instance of `cls`; None when it cannot be built without the fields that failed."""
        read = self._block(cls, value, path)
        return None if read is FAILED else read

    def field(self, cls: type, name: str, value: Value, path: Path) -> None:
        """Read one field of `cls` for its mistakes only."""
        if not is_null(value):
            _readers(cls)[name](self, value, path)

    def error(self, value: Value, path: Path, message: str) -> Any:
        """Tell a problem with `value`, but nothing more of one that is broken already."""
        if not (isinstance(value, Text) and value.tag == BROKEN):
            self.findings.error(value.line, value.col, path, message)
        return FAILED

    def _block(self, cls: type, value: Value, path: Path) -> Any:
        if not isinstance(value, Table):
            return self.error(value, path, "must be a mapping of keys")
        key = (cls, value)
        if key not in self._blocks:
            self._blocks[key] = self._new_block(cls, value, path)
        return self._blocks[key]

    def _new_block(self, cls: type, table: Table, path: Path) -> Any:
        known = _readers(cls)
        given: dict[str, Any] = {}
        for key, entry in table.entries.items():
            if key not in known:
                self._stranger(cls, key, entry, (*path, key))
            elif not is_null(entry.value):
                given[key] = known[key](self, entry.value, (*path, key))
        for name in _required(cls):
            if name not in given:
                given[name] = self.error(table, (*path, name), "is required")
            if given[name] is FAILED:
                return FAILED
        read = {name: value for name, value in given.items() if value is not FAILED}
        return cls(**_empty_blocks(cls) | read)

    def _stranger(self, cls: type, key: str, entry: Entry, path: Path) -> None:
        if key in RESERVED_KEYS.get(cls, ()):
            if not is_null(entry.value):
                self.findings.error(entry.line, entry.col, path, NOT_AVAILABLE)
            return
        hint = did_you_mean(key, _readers(cls))
        self.findings.warn(entry.line, entry.col, path, f"unknown key, ignored{hint}")


@cache
def _readers(cls: type) -> dict[str, Read]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: _reader(hints[field.name]) for field in attrs.fields(cls)}


@cache
def _required(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING)


@cache
def _empty_blocks(cls: type) -> dict[str, Any]:
    """The defaults that a factory makes, made once: nothing in the model can change, so all share them."""
    fields = attrs.fields(cls)
    return {field.name: field.default.factory() for field in fields if isinstance(field.default, _FACTORY)}


def _reader(hint: Any) -> Read:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _scalar(*hint.__metadata__)
    if origin in (Union, UnionType):  # X | None: null never comes here, it is the default
        return _either(*(_reader(arg) for arg in args if arg is not type(None)))
    if origin is Literal:
        return _scalar(_choice(args))
    if origin is tuple:
        return _list(_reader(args[0]))
    if origin is Mapping:
        return _free_mapping if args[1] is Any else _mapping(_reader(args[0]), _reader(args[1]))
    if attrs.has(hint):
        return lambda reader, value, path: reader._block(hint, value, path)
    return _scalar(_PLAIN[hint])


def _scalar(parse: Callable[[str], Any], no_scalar: str = "must be a single value") -> Read:
    def read(reader: Reader, value: Value, path: Path) -> Any:
        if not isinstance(value, Text) or value.tag == BROKEN:
            return reader.error(value, path, no_scalar)
        if is_null(value):
            return reader.error(value, path, "must not be null")
        try:
            return parse(value.text)
        except ValueError as error:
            return reader.error(value, path, str(error))

    return read


def _either(first: Read, block: Read | None = None) -> Read:
    """The one reader, or of a word and a block the one that the file's value is for."""
    if block is None:
        return first
    return lambda reader, value, path: (first if isinstance(value, Text) else block)(reader, value, path)


def _choice(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in RESERVED_WORDS:
            raise ValueError(f"`{text}` is {NOT_AVAILABLE}")
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return parse


def _list(read_item: Read) -> Read:
    def read(reader: Reader, value: Value, path: Path) -> Any:
        if not isinstance(value, Items):
            return reader.error(value, path, "must be a list")
        items = [read_item(reader, item, (*path, index)) for index, item in enumerate(value.items)]
        return FAILED if FAILED in items else tuple(items)

    return read


def _mapping(read_key: Read, read_value: Read) -> Read:
    def read(reader: Reader, value: Value, path: Path) -> Any:
        if not isinstance(value, Table):
            return reader.error(value, path, "must be a mapping of names to values")
        mapping = {}
        for key, entry in value.entries.items():
            if is_null(entry.value):  # the built-in default of a name is not to be there
                continue
            name = read_key(reader, Text(key, key, STR, entry.line, entry.col), (*path, key))
            item = read_value(reader, entry.value, (*path, key))
            mapping[name] = item
        return FAILED if FAILED in mapping or FAILED in mapping.values() else mapping

    return read


# ---- free data -----------------------------------------------------------------------------------


def _free_mapping(reader: Reader, value: Value, path: Path) -> Any:
    if not isinstance(value, Table):
        return reader.error(value, path, "must be a mapping")
    return _free(reader, value, path)


def _free(reader: Reader, value: Value, path: Path) -> Any:
    """Data as YAML 1.1 reads it, limited to what JSON can carry; None for what is broken."""
    if isinstance(value, Table):
        entries = value.entries.items()
        return {key: _free(reader, entry.value, (*path, key)) for key, entry in entries}
    if isinstance(value, Items):
        return [_free(reader, item, (*path, index)) for index, item in enumerate(value.items)]
    if value.tag == BROKEN:
        return None
    try:
        return _free_scalar(value)
    except (ValueError, KeyError, IndexError):
        reader.error(value, path, "is no value that JSON can carry")
        return None


def _free_scalar(value: Text) -> Any:
    build = _FREE_SCALARS.get(value.tag.rpartition(":")[2])
    if build is None:  # texts, and dates, which JSON knows only as texts
        return value.text
    scalar = build(_constructor, yaml.ScalarNode(value.tag, value.text))
    if isinstance(scalar, float) and not math.isfinite(scalar):
        raise ValueError("JSON has no infinity")
    return scalar


_constructor = SafeConstructor()
_FREE_SCALARS: dict[str, Callable[[SafeConstructor, yaml.ScalarNode], Any]] = {
    "null": SafeConstructor.construct_yaml_null,
    "bool": SafeConstructor.construct_yaml_bool,
    "int": SafeConstructor.construct_yaml_int,
    "float": SafeConstructor.construct_yaml_float,
}
