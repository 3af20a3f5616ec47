"""Redirects and cookies of an upstream, seen from the client: `headers.location: rewrite`.

An upstream names itself by its own authority and path. The client knows neither: it reaches the
upstream's base path under the prefix that its route consumed. What lies under the base path is turned
into the client's spelling; what the client could not reach through this route stays as it is, and so
does what already carries the prefix, as from backends that read X-Forwarded-Prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import frozen

from trio_gateway.domain.fields import Hop

_absolute = re.compile(rb"(?i:(https?):)?//([^/?#]*)([^\x00]*)").fullmatch
_substitute_cookie_path = re.compile(rb"(?i)(;[ \t]*path[ \t]*=[ \t]*)([^;]*)").sub


@frozen
class LocationRewriter:
    """Rewrites for one target: `uri` for Location and Content-Location, `cookie` for Set-Cookie."""

    uri: Callable[[bytes, Hop], bytes]
    cookie: Callable[[bytes, Hop], bytes]


def compile_location(
    authority: bytes, base_path: bytes, *, tls: bool, preserve_host: bool = False
) -> LocationRewriter:
    """The rewriter for a target at `authority` whose `base_path` the consumed prefix stands for.

    An authority is the target's when host and effective port are, so a redirect from port 80 to 443 of
    the same host leaves the gateway, as it would leave the target. With `preserve_host` the upstream
    knows itself by the client's Host, which then counts too.
    """
    base = base_path.removesuffix(b"/")
    own = _origin(b"https" if tls else b"http", authority)

    def uri(value: bytes, hop: Hop) -> bytes:
        found = _absolute(value)
        if found is None:
            return _mapped(value, base, hop) if value.startswith(b"/") else value
        scheme, named, path = found.groups()
        theirs = _origin(scheme or (b"https" if tls else b"http"), named)
        if theirs != own and not (preserve_host and named.lower() == hop.host.lower()):
            return value
        path = path if path.startswith(b"/") else b"/" + path
        if not _under(path, base) and not _carries(path, hop.prefix):
            return value
        mapped = _mapped(path, base, hop)
        origin = hop.origin or (hop.host and hop.scheme + b"://" + hop.host)
        return origin + mapped

    def cookie(value: bytes, hop: Hop) -> bytes:
        def with_path(found: re.Match[bytes]) -> bytes:
            return found[1] + _cookie_path(found[2].rstrip(b" \t"), base, hop.prefix)

        return _substitute_cookie_path(with_path, value)

    return LocationRewriter(uri, cookie)


def _origin(scheme: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Host in lower case and effective port."""
    host, colon, port = authority.lower().rpartition(b":")
    if not colon or b"]" in port:
        host, port = authority.lower(), b""
    return host, port or (b"443" if scheme.lower() == b"https" else b"80")


def _under(path: bytes, base: bytes) -> bool:
    return path.startswith(base) and path[len(base) : len(base) + 1] in (b"", b"/", b"?", b"#")


def _carries(path: bytes, prefix: bytes) -> bool:
    return prefix != b"" and _under(path, prefix)


def _mapped(path: bytes, base: bytes, hop: Hop) -> bytes:
    if not _under(path, base) or _carries(path, hop.prefix):
        return path
    mapped = hop.prefix + path[len(base) :]
    # Without a prefix, what stands behind the base path could read as another authority.
    return mapped if hop.prefix else b"/" + mapped.lstrip(b"/")


def _cookie_path(path: bytes, base: bytes, prefix: bytes) -> bytes:
    """A cookie for all of the base path, or for more, is for all of the prefix."""
    if not path.startswith(b"/") or _carries(path, prefix):
        return path
    if _under(base or b"/", path.removesuffix(b"/")):
        return prefix or b"/"
    return prefix + path[len(base) :] if _under(path, base) else path
