"""A config file to a `GatewayConfig`, with every mistake in it told at once.

The stages: `source` parses and expands, `merge` puts an endpoint on top of the file's defaults,
`reader` turns blocks into the model, `check` compares fields with each other. None of them stops at
a mistake, so a `Loaded` always has a config; it is good for use only when it has no problems.

Reading a thousand endpoints takes longer than a reload may. A reading can therefore be given what an
earlier one remembers: endpoints that are written as they were then are not read again but are the very
same objects, which a diff sees at a glance.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath

import attrs
from attrs import field, frozen

from trio_gateway.config.check import advise, check
from trio_gateway.config.merge import overlay
from trio_gateway.config.model import EndpointConfig, GatewayConfig, ServerTls
from trio_gateway.config.positions import EndpointSource, Positions
from trio_gateway.config.problems import Findings, Problem
from trio_gateway.config.reader import Reader
from trio_gateway.config.reserved import WAITING_VARIABLES
from trio_gateway.config.source import Items, Recall, Recalled, Table, is_null, read_source
from trio_gateway.errors import ConfigError

ENDPOINT_DEFAULTS = frozenset(
    {
        "allow",
        "circuit_breaker",
        "cors",
        "deny",
        "headers",
        "health_check",
        "max_body_bytes",
        "path",
        "pool",
        "timeout",
        "timeouts",
        "tls",
        "websocket",
    }
)
"""The keys of an endpoint that may stand at the top of a file, as defaults for every endpoint."""


@frozen
class Loaded:
    """What a file says: the config, what forbids its use, what its author should know, and where."""

    config: GatewayConfig
    problems: list[Problem] = field(factory=list)
    warnings: list[Problem] = field(factory=list)
    positions: Positions = field(factory=Positions)
    recall: Recall = field(factory=Recall, repr=False)
    """For the next reading; nothing where there was something to tell, which must be told again."""

    def require(self) -> GatewayConfig:
        """The config, or ConfigError with one line for each problem."""
        if self.problems:
            raise ConfigError([str(problem) for problem in self.problems])
        return self.config

    @property
    def defaults(self) -> Table:
        """What the file gives to endpoints that come from elsewhere, as it gives it to its own."""
        return _defaults(self.positions.root)

    def examined(self) -> Loaded:
        """The same with what is wrong with the files that it names. For who may know what lies where."""
        if self.config.server.tls == ServerTls():
            return self
        from trio_gateway.config.certificates import (  # ssl costs half of what a verb has to start
            file_advice,
            file_findings,
        )

        problems, warnings = (
            [self.positions.problem(path, message) for path, message in find(self.config)]
            for find in (file_findings, file_advice)
        )
        return attrs.evolve(
            self,
            problems=_in_order(self.problems, problems),
            warnings=_in_order(self.warnings, warnings),
        )

    def strict(self) -> Loaded:
        """The same with warnings counted as problems."""
        return attrs.evolve(self, problems=[*self.problems, *self.warnings], warnings=[])


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, recall: Recall | None = None
) -> Loaded:
    """Read, parse and check the file at `path`. A file that can't be read is a problem, not an exception."""
    name = os.fspath(path)
    environ = os.environ if environ is None else environ
    try:
        return parse_config(FilePath(name).read_bytes().decode("utf-8-sig"), name, environ, recall)
    except OSError as error:
        return _unreadable(name, 0, 0, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, col = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        return _unreadable(name, line, col, "is not UTF-8 text")


def digest_of(path: str) -> bytes:
    """What tells two contents of a file apart; b"" when it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def parse_config(text: str, name: str, environ: Mapping[str, str], recall: Recall | None = None) -> Loaded:
    """Parse and check the text of a config file; `name` is what problems call it.

    `recall` is an earlier reading's, with the same `environ`. It changes nothing but the time that it takes.
    """
    with collector_paused():
        loaded, told = _parse(text, name, environ, recall or Recall(ENDPOINT_DEFAULTS))
        if told and recall and recall.endpoints:  # once more, so that each finding stands at its very place
            loaded, _ = _parse(text, name, environ, Recall(ENDPOINT_DEFAULTS))
        return loaded


@contextmanager
def collector_paused() -> Iterator[None]:
    """Parsing makes many objects and no cycles: collecting meanwhile only walks them, at thrice the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(text: str, name: str, environ: Mapping[str, str], recall: Recall) -> tuple[Loaded, bool]:
    """What the text says, and whether there was anything to tell of it."""
    findings = Findings(name)
    root = read_source(text, environ, findings, recall)
    config, sources = _read(root, Reader(findings), findings)
    positions = Positions(name, root, sources)
    problems = _in_order(findings.errors, check(config, positions))
    warnings = _in_order(findings.warnings, advise(config, positions))
    told = bool(problems or warnings)
    recall = Recall() if told else _recall(config, sources)
    loaded = Loaded(config, problems, _in_order(_variables(environ), warnings), positions, recall)
    return loaded, told


def _recall(config: GatewayConfig, sources: tuple[EndpointSource, ...]) -> Recall:
    read = zip(sources, config.endpoints, strict=True)
    known = {source.own.written: endpoint for source, endpoint in read if source.own.written is not None}
    return Recall(ENDPOINT_DEFAULTS, known)


def _read(
    root: Table, reader: Reader, findings: Findings
) -> tuple[GatewayConfig, tuple[EndpointSource, ...]]:
    known = {field.name for field in attrs.fields(GatewayConfig)}
    own = {key: entry for key, entry in root.entries.items() if key in known or key not in ENDPOINT_DEFAULTS}
    own.pop("endpoints", None)
    config = reader.block(GatewayConfig, attrs.evolve(root, entries=own), ()) or GatewayConfig()
    defaults = _defaults(root)
    for key, entry in defaults.entries.items():
        reader.field(EndpointConfig, key, entry.value, (key,))
    endpoints, sources = _unique(_endpoints(root, defaults, reader), findings)
    return attrs.evolve(config, endpoints=endpoints), sources


def _defaults(root: Table) -> Table:
    return Table({key: entry for key, entry in root.entries.items() if key in ENDPOINT_DEFAULTS})


def _endpoints(root: Table, defaults: Table, reader: Reader) -> list[tuple[EndpointConfig, EndpointSource]]:
    if "endpoints" not in root.entries:
        return []
    listed = root.entries["endpoints"].value
    if not isinstance(listed, Items):
        reader.error(listed, ("endpoints",), "must be a list" + " (`[]` for none)" * is_null(listed))
        return []
    found = []
    for row, item in enumerate(listed.items):
        if isinstance(item, Recalled):
            found.append((item.read, EndpointSource(row, item, item)))
            continue
        merged = overlay(defaults, item) if defaults.entries else item
        endpoint = reader.block(EndpointConfig, merged, ("endpoints", row))
        if endpoint and isinstance(item, Table) and isinstance(merged, Table):
            found.append((endpoint, EndpointSource(row, item, merged)))
    return found


def _unique(
    found: list[tuple[EndpointConfig, EndpointSource]], findings: Findings
) -> tuple[tuple[EndpointConfig, ...], tuple[EndpointSource, ...]]:
    """The first endpoint of each id, as the old gateway did; the others are named in warnings."""
    kept: dict[str, tuple[EndpointConfig, EndpointSource]] = {}
    for endpoint, source in found:
        first = kept.setdefault(endpoint.id, (endpoint, source))[1]
        if first is not source:
            what = f"name `{endpoint.name}`" if endpoint.name else "url without a name"
            message = f"skipped: endpoints[{first.row}] in line {first.own.line} has the same {what}"
            findings.warn(source.own.line, source.own.col, ("endpoints", source.row), message)
    return tuple(endpoint for endpoint, _ in kept.values()), tuple(source for _, source in kept.values())


def _variables(environ: Mapping[str, str]) -> list[Problem]:
    message = "this variable is not used in this version"
    return [Problem("environment", 0, 0, name, message) for name in WAITING_VARIABLES if name in environ]


def _in_order(*lists: list[Problem]) -> list[Problem]:
    """All of them in the order of the file, each mistake once though several endpoints inherit it."""
    told: dict[tuple[int, int, str, str], Problem] = {}
    for problem in (problem for problems in lists for problem in problems):
        place = "" if problem.line else problem.path
        told.setdefault((problem.line, problem.col, problem.message, place), problem)
    return sorted(told.values(), key=lambda problem: (problem.line, problem.col))


def _unreadable(name: str, line: int, col: int, message: str) -> Loaded:
    return Loaded(GatewayConfig(), [Problem(name, line, col, "", message)])
