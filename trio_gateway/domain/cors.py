"""Cross-origin requests: what browsers are told about an endpoint (the Fetch standard, 3.2).

Where `cors` is configured it is the gateway that answers, alone: it answers preflights without asking
the upstream, and takes the place of the upstream's own `Access-Control-Allow-Origin`, of which a browser
accepts only one. A foreign origin gets no error, only no permission: the browser enforces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from trio_gateway.config.model import CorsConfig
from trio_gateway.domain.fields import RawHeaders, without

_ALLOW_ORIGIN = b"Access-Control-Allow-Origin"
_ALLOW_CREDENTIALS = b"Access-Control-Allow-Credentials"
_OURS = frozenset((_ALLOW_ORIGIN.lower(), _ALLOW_CREDENTIALS.lower()))
_PREFLIGHT_VARIES = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")

_field_names = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]+").fullmatch


@frozen
class Cors:
    """One endpoint's rules, compiled. `headers` None allows the fields that a preflight asks for."""

    origins: frozenset[bytes]
    methods: bytes
    headers: bytes | None
    credentials: bool
    max_age: bytes

    def preflight(self, method: bytes, headers: RawHeaders) -> RawHeaders | None:
        """The fields of the answer (204, no body) to a preflight; None when the request is none."""
        asked = _value(headers, b"access-control-request-method")
        if method != b"OPTIONS" or asked is None or _value(headers, b"origin") is None:
            return None
        permission = self._permission(headers)
        if not permission:
            return [_PREFLIGHT_VARIES]
        answer = [*permission, (b"Access-Control-Allow-Methods", self.methods)]
        fields = self.headers
        if fields is None:
            fields = _value(headers, b"access-control-request-headers")
        if fields and _field_names(fields):
            answer.append((b"Access-Control-Allow-Headers", fields))
        return [*answer, (b"Access-Control-Max-Age", self.max_age), _PREFLIGHT_VARIES]

    def decorate(self, request: RawHeaders, reply: RawHeaders) -> RawHeaders:
        """The reply's fields with our permission for the request's origin in the upstream's place."""
        fields = [*without(reply, _OURS), *self._permission(request)]
        if b"*" not in self.origins and not _varies_by_origin(fields):
            fields.append((b"Vary", b"Origin"))
        return fields

    def _permission(self, request: RawHeaders) -> RawHeaders:
        origin = _value(request, b"origin")
        if origin is None or not (b"*" in self.origins or origin in self.origins):
            return []
        allowed = b"*" if b"*" in self.origins else origin
        credentials = [(_ALLOW_CREDENTIALS, b"true")] if self.credentials else []
        return [(_ALLOW_ORIGIN, allowed), *credentials]


def compile_cors(config: CorsConfig, methods: Iterable[str]) -> Cors:
    """Compile a `cors` block that has origins; `methods` are the endpoint's, where it names none."""
    allowed = list(config.methods if config.methods is not None else methods)
    if "GET" in allowed and "HEAD" not in allowed:
        allowed.append("HEAD")
    return Cors(
        origins=frozenset(origin.encode() for origin in config.origins),
        methods=", ".join(allowed).encode(),
        headers=None if config.headers is None else ", ".join(config.headers).encode(),
        credentials=config.credentials,
        max_age=b"%d" % config.max_age,
    )


def _value(headers: RawHeaders, name: bytes) -> bytes | None:
    """The field's value where it stands once; a second one makes it nobody's."""
    values = [value for spelled, value in headers if len(spelled) == len(name) and spelled.lower() == name]
    return values[0] if len(values) == 1 else None


def _varies_by_origin(reply: RawHeaders) -> bool:
    varying = b",".join(value.lower() for name, value in reply if name.lower() == b"vary")
    return not {b"origin", b"*"}.isdisjoint(name.strip(b" \t") for name in varying.split(b","))
