"""Request targets: split, read for matching, and joined to an endpoint's url.

Two rules keep a target from reaching what its route did not grant. First, everything that servers
read differently is refused here, before any route is chosen: dot segments in every spelling,
backslashes, NUL, broken escapes. Second, what is matched is a canonical copy in which each path has
one spelling, while what is forwarded is the raw rest, byte for byte: nothing is decoded, merged or
resolved on its way. Scheme, host and port of the upstream are no part of this module: input cannot
change them.

Nearly all targets need no work, so one regular expression finds those that do (RFC 3986 6.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from urllib.parse import unquote_to_bytes

from trio_gateway.errors import BadRequest

# Graphic ASCII without "#" (and "?" in the path): a space, a control or an octet above 127 never fits.
_PATH = rb"/[!-\"$->@-~]*"
_QUERY = rb"(?:\?([!-\"$-~]*))?"
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{0,5})?"

_origin_form = re.compile(rb"(" + _PATH + rb")" + _QUERY).fullmatch
_absolute_form = re.compile(rb"(?i:https?)://(" + _HOST + rb")(" + _PATH + rb")?" + _QUERY).fullmatch

needs_care = re.compile(rb"%|\\|/(?:/|\.\.?(?:[/;]|\Z))").search
"""Whether a path has more than one spelling, or a refused one. `None`: its segments are `split(b"/")`."""

_broken_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_substitute_escapes = re.compile(rb"%..").sub

# Octets that mean the same with and without an escape in a segment: graphic ASCII less the delimiters
# of a path ("/", "?", "#"), and less "%", which would make two escapes of one.
_LITERAL = frozenset(range(0x21, 0x7F)) - frozenset(b"/?#%")


def split_target(raw: bytes) -> tuple[bytes, bytes | None, bytes | None]:
    """Path, query (without "?"; None when there is none) and authority (None in origin-form).

    BadRequest for all but origin-form and http(s) absolute-form, for userinfo, "#", spaces, controls
    and non-ASCII octets (RFC 9112 3.2). An absolute-form without a path has the path "/".
    """
    if found := _origin_form(raw):
        path, query = found.groups()
        return path, query, None
    if found := _absolute_form(raw):
        authority, path, query = found.groups()
        return path or b"/", query, authority
    raise BadRequest("Malformed request target")


def match_segments(path: bytes) -> list[bytes]:
    """The segments of the path's canonical copy; the first is empty, as the path begins with "/".

    Escapes of octets that can stand for themselves are decoded, the others get upper-case digits;
    empty segments after the first are left out (but for one at the end); case is kept, and `%2F` never
    separates. BadRequest for `%00`, `\\`, `%5c`, broken escapes, and segments that are `.` or `..` after
    decoding, with `%2f` or `;parameters` too.
    """
    segments = path.split(b"/")
    if needs_care(path) is None:
        return segments
    last = len(segments) - 1
    return [_canonical(s) for at, s in enumerate(segments) if s or at < 2 or at == last]


def _canonical(segment: bytes) -> bytes:
    if _broken_escape(segment):
        raise BadRequest("Invalid escape in the path")
    decoded = unquote_to_bytes(segment)
    if b"\\" in decoded or b"\0" in decoded:
        raise BadRequest("Backslash or NUL in the path")
    if any(piece.partition(b";")[0] in (b".", b"..") for piece in decoded.split(b"/")):
        raise BadRequest("Dot segment in the path")
    return _substitute_escapes(_canonical_escape, segment)


def _canonical_escape(escape: re.Match[bytes]) -> bytes:
    octet = int(escape[0][1:], 16)
    return bytes((octet,)) if octet in _LITERAL else escape[0].upper()


def raw_rest(path: bytes, n: int) -> bytes:
    """What stands behind the first `n` segments, raw: empty, or from the slash that ends them on.

    Slashes in a row count as one while segments are counted, as in `match_segments`.
    """
    found = _first_segments(n)(path)
    return path[found.end() :] if found else b""


@cache
def _first_segments(n: int) -> Callable[[bytes], re.Match[bytes] | None]:
    return re.compile(rb"(?:/+[^/]+){%d}" % n).match


def join(base_path: bytes, base_query: bytes | None, rest: bytes, query: bytes | None) -> bytes:
    """The upstream's request target: the url's path and the raw rest with one slash between them."""
    if rest and base_path.endswith(b"/"):
        base_path = base_path[:-1]
    return _with_queries(base_path + rest, base_query, query)


def replace_last(base_path: bytes, base_query: bytes | None, rest: bytes, query: bytes | None) -> bytes:
    """As `join`, but the rest replaces the url's last segment, as `urljoin` does with a relative path.

    Unlike `urljoin`, nothing in the rest (a scheme, slashes in a row) can leave the url's directory, and
    the url's own query is kept. Without a rest the url's path stays as it is.
    """
    relative = rest.lstrip(b"/")
    path = base_path[: base_path.rindex(b"/") + 1] + relative if relative else base_path
    return _with_queries(path, base_query, query)


def _with_queries(path: bytes, base_query: bytes | None, query: bytes | None) -> bytes:
    if base_query:
        query = base_query + b"&" + query if query else base_query
    return path if query is None else path + b"?" + query
