"""One endpoint from plain data: what the management API is sent, and what the state directory keeps.

The data becomes the same tree that a file's YAML becomes, so one reader and one set of rules judge both.
Two things differ: a mistake is told by its path and the value that stands there, as there are no lines,
and `${NAME}` stays text, so that nobody can read the gateway's environment through its API.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

import attrs
from attrs import define, field, frozen

from trio_gateway.config.check import endpoint_findings
from trio_gateway.config.merge import overlay
from trio_gateway.config.model import EndpointConfig
from trio_gateway.config.problems import Findings, Path
from trio_gateway.config.reader import Reader
from trio_gateway.config.source import BROKEN, NULL, STR, Entry, Items, Table, Text, Value

_TAG = "tag:yaml.org,2002:"
_DEEPEST = 64
_REQUIRED = "is required"
_FACTORY: Any = attrs.Factory  # a class, though its stub says that it is a function


@frozen
class Mistake:
    """One thing that is wrong: the path to it, what is wrong, and what stands there."""

    type: Literal["missing", "value_error"]
    loc: Path
    msg: str
    input: Any


@frozen
class ReadEndpoint:
    """What the data says: an endpoint, or the mistakes that forbid one. Warnings name ignored keys."""

    config: EndpointConfig | None
    mistakes: tuple[Mistake, ...] = ()
    warnings: tuple[Mistake, ...] = ()


def read_endpoint(data: object, defaults: Table | None = None) -> ReadEndpoint:
    """Read JSON-like `data` as an entry of `endpoints`, on top of a file's `defaults`."""
    findings = _Told()
    source = _tree(data, (), findings)
    merged = overlay(defaults, source) if defaults is not None and defaults.entries else source
    config = Reader(findings).block(EndpointConfig, merged, ())
    if config is not None and not findings.wrong:
        for path, message in endpoint_findings(config):
            findings.error(0, 0, path, message)
    return ReadEndpoint(
        None if findings.wrong else config,
        tuple(_mistake(data, path, message) for path, message in findings.wrong),
        tuple(_mistake(data, path, message) for path, message in findings.odd),
    )


def plain_endpoint(config: EndpointConfig) -> dict[str, Any]:
    """The data that reads as `config` again, without a file's defaults; what is built in is left out."""
    plain: dict[str, Any] = _plain(config)
    return plain


def _plain(value: Any) -> Any:
    cls: type = type(value)
    if attrs.has(cls):
        told = {field.name: getattr(value, field.name) for field in attrs.fields(cls)}
        default = _defaults(cls)
        return {
            name: _plain(item) for name, item in told.items() if name not in default or default[name] != item
        }
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, IPv4Network | IPv6Network) else value


@cache
def _defaults(cls: type) -> dict[str, Any]:
    fields = [field for field in attrs.fields(cls) if field.default is not attrs.NOTHING]
    return {
        field.name: field.default.factory() if isinstance(field.default, _FACTORY) else field.default
        for field in fields
    }


@define
class _Told(Findings):
    """Findings with their paths as they are."""

    file: str = "data"
    wrong: list[tuple[Path, str]] = field(factory=list)
    odd: list[tuple[Path, str]] = field(factory=list)

    def error(self, line: int, col: int, path: Path, message: str) -> None:  # noqa: ARG002  no lines here
        self.wrong.append((path, message))

    def warn(self, line: int, col: int, path: Path, message: str) -> None:  # noqa: ARG002
        self.odd.append((path, message))


def _mistake(data: object, path: Path, message: str) -> Mistake:
    """A missing key's input is the mapping that lacks it."""
    missing = message == _REQUIRED
    found: Any = data
    for step in path[:-1] if missing else path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):  # a default of the file, or a key itself
            break
    return Mistake("missing" if missing else "value_error", path, message, found)


# ---- data to the reader's tree --------------------------------------------------------------------


def _tree(data: object, path: Path, told: _Told) -> Value:
    if len(path) > _DEEPEST:
        return _broken(path, f"nested deeper than {_DEEPEST} levels", told)
    if isinstance(data, Mapping):
        entries = {str(key): Entry(0, 0, _tree(item, (*path, str(key)), told)) for key, item in data.items()}
        return Table(entries, 0, 0)
    if isinstance(data, list | tuple):
        return Items([_tree(item, (*path, index), told) for index, item in enumerate(data)], 0, 0)
    return _scalar(data, path, told)


def _scalar(data: object, path: Path, told: _Told) -> Text:
    if data is None:
        return _text("null", NULL)
    if isinstance(data, bool):
        return _text(str(data).lower(), _TAG + "bool")
    if isinstance(data, int | float):
        return _text(repr(data), _TAG + type(data).__name__)
    if isinstance(data, str):
        return _text(data, STR)
    return _broken(path, "is no value that JSON can carry", told)


def _text(text: str, tag: str) -> Text:
    return Text(text, text, tag, 0, 0)


def _broken(path: Path, message: str, told: _Told) -> Text:
    told.error(0, 0, path, message)
    return _text("", BROKEN)
