"""What narrows a route beside its path: hosts, method, fields and query.

A route's conditions become one function at load, or None where nothing is asked, so that a plain route
pays nothing. Hosts are not among them: routes are found by host, through the keys made here, since a
gateway may serve thousands of hosts under one path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import parse_qs

from trio_gateway.config.model import MatchConfig
from trio_gateway.domain.fields import RawHeaders

Condition = Callable[[bytes, bytes | None, RawHeaders], bool]
"""Whether a request's method, query and fields satisfy a route."""

_LONGEST_HOST = 255  # octets, RFC 1035 2.3.4: bounds the wildcard keys that one Host can ask for


def bare_host(authority: bytes) -> bytes:
    """An authority's host in lower case, without port and without the root's dot."""
    host = authority.lower()
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1]
    return host.partition(b":")[0].removesuffix(b".")


def host_keys(authority: bytes) -> Iterator[bytes]:
    """A host's keys: the bare host, then the wildcards that cover it, narrowest first."""
    host = bare_host(authority)
    yield host
    suffix = host if len(host) <= _LONGEST_HOST else b""
    while suffix := suffix.partition(b".")[2]:
        yield b"*." + suffix


def compile_condition(match: MatchConfig) -> Condition | None:
    """One function for what `match` asks of method, headers and query; None when it asks nothing."""
    parts: list[Condition] = []
    if match.methods:
        parts.append(_method_condition(match.methods))
    if match.headers:
        parts.append(_header_condition(match.headers))
    if match.query:
        parts.append(_query_condition(match.query))
    if not parts:
        return None
    return lambda method, query, headers: all(part(method, query, headers) for part in parts)


def _method_condition(methods: Iterable[str]) -> Condition:
    wanted = {name.encode() for name in methods}
    if b"GET" in wanted:
        wanted.add(b"HEAD")

    def holds(method: bytes, _query: bytes | None, headers: RawHeaders) -> bool:
        return method in wanted or (method == b"OPTIONS" and _preflighted(headers) in wanted)

    return holds


def _preflighted(headers: RawHeaders) -> bytes | None:
    """The method that a CORS preflight asks about: the preflight takes that method's route."""
    return next((value for name, value in headers if name.lower() == b"access-control-request-method"), None)


def _header_condition(asked: Mapping[str, str]) -> Condition:
    wanted = {name.lower().encode(): value.encode() for name, value in asked.items()}

    def holds(_method: bytes, _query: bytes | None, headers: RawHeaders) -> bool:
        sent: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            sent.setdefault(name.lower(), []).append(value)
        return all(_among(value, sent.get(name)) for name, value in wanted.items())

    return holds


def _query_condition(asked: Mapping[str, str]) -> Condition:
    wanted = {name: value.encode() for name, value in asked.items()}

    def holds(_method: bytes, query: bytes | None, _headers: RawHeaders) -> bool:
        sent = parse_qs((query or b"").decode("ascii", "replace"), keep_blank_values=True)
        return all(_among(value, [v.encode() for v in sent.get(name, [])]) for name, value in wanted.items())

    return holds


def _among(wanted: bytes, sent: list[bytes] | None) -> bool:
    """Whether one of the values is the wanted one; `*` wants any."""
    return bool(sent) and (wanted == b"*" or wanted in (sent or ()))
