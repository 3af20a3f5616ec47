"""What `cached_response` answers with: the last good reply to the same GET, while the breaker is open.

This is a shared cache (RFC 9111) of an unusual kind. It is never asked while the upstream works, so
freshness does not matter; what matters is that a reply made for one client never reaches another, and
that nobody is told something older than `stale_if_error`. Where a rule could be read in two ways, the
reply is not kept.

"The same GET" is the same host and target with the same values of every field that `cache.vary` or the
reply's `Vary` names. All replies to one target stand together as a resource, which has the `Vary` of
its newest reply; the resource that was used least lately loses its oldest reply first when the bytes
run out. Bytes are estimated with an overhead per reply and field, so that many tiny replies can't add
up to more than `max_bytes` promises.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable

from attrs import define, field, frozen

from trio_gateway.config.model import FallbackCacheConfig
from trio_gateway.domain.headers import RawHeaders

_CACHE_STATUS = b"trio-gateway; hit; detail=circuit-open"  # RFC 9211 2.2, 2.8

_FORBIDDING = frozenset((b"no-store", b"private", b"no-cache", b"must-revalidate", b"proxy-revalidate"))
_UNKEPT = frozenset(  # RFC 9111 3.1, and what is made anew for each client
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authentication-info te trailer "
    b"transfer-encoding upgrade content-length age".split()
)
_CREDENTIALS = (b"authorization", b"cookie", b"x-api-key")
_NOT_THE_CLIENTS = frozenset(  # what an upstream reads in these says nothing of what the client sent
    b"forwarded via traceparent x-real-ip x-request-id x-forwarded-for x-forwarded-proto x-forwarded-host "
    b"x-forwarded-port x-forwarded-prefix x-forwarded-client-cert".split()
)
_SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
_QUOTED = rb'"(?:[^"\\]|\\.)*"?'
_DIRECTIVE = re.compile(_QUOTED + rb'|([^\s=,;"]+)(?:\s*=\s*(' + _QUOTED + rb"|[^\s,]*))?")

_ENTRY_OVERHEAD = 512
_FIELD_OVERHEAD = 160


@frozen
class CachedReply:
    """A kept reply, ready to be sent: `Age` and `Cache-Status` are among its headers."""

    status: int
    headers: RawHeaders
    body: bytes = field(repr=False)


@define(eq=False)
class Recording:
    """Collects a body while it streams by, and gives up beyond `limit` bytes."""

    limit: int
    _chunks: list[bytes] = field(init=False, factory=list, repr=False)
    _size: int = field(init=False, default=0)

    def add(self, chunk: bytes) -> None:
        """Note the next bytes of the body."""
        self._size += len(chunk)
        if self._size <= self.limit:
            self._chunks.append(bytes(chunk))
        else:
            self._chunks.clear()

    def body(self) -> bytes | None:
        """The whole body, or None when it was too long."""
        return b"".join(self._chunks) if self._size <= self.limit else None


@frozen(eq=False)
class _Entry:
    headers: RawHeaders
    body: bytes
    made: float  # when its age was zero
    until: float
    public: bool
    size: int


@define(eq=False)
class _Resource:
    vary: tuple[bytes, ...]
    replies: OrderedDict[tuple[bytes | None, ...], _Entry] = field(factory=OrderedDict)


@define(eq=False)
class FallbackCache:
    """Keeps complete 200 replies of one endpoint; `now` is seconds on any clock that never runs backwards."""

    config: FallbackCacheConfig
    size: int = field(init=False, default=0)  # estimated bytes
    _vary: frozenset[bytes] = field(init=False, repr=False)
    _resources: OrderedDict[tuple[bytes, bytes], _Resource] = field(
        init=False, factory=OrderedDict, repr=False
    )

    def __attrs_post_init__(self) -> None:
        self._vary = frozenset(name.lower().encode("ascii") for name in self.config.vary)

    def __len__(self) -> int:
        return sum(len(resource.replies) for resource in self._resources.values())

    def wants(self, method: bytes, request_headers: RawHeaders, *, has_body: bool = False) -> bool:
        """Whether a reply to this request could be kept at all: a GET without `no-store` and without a body.

        A body may have made the reply what it is (searches do that), and no key knows bodies.
        """
        return method == b"GET" and not has_body and b"no-store" not in _directives(request_headers)

    def storable(
        self,
        request_headers: RawHeaders,
        status: int,
        reply_headers: RawHeaders,
        *,
        client_certificate: bool = False,
    ) -> bool:
        """Whether this reply may be kept once its body is complete."""
        if status != 200 or _has(reply_headers, (b"set-cookie", b"content-range")):
            return False
        vary = _vary_of(reply_headers)
        if b"*" in vary or not vary.isdisjoint(_NOT_THE_CLIENTS) or self._too_long(reply_headers):
            return False
        directives = _directives(reply_headers)
        if not _FORBIDDING.isdisjoint(directives):
            return False
        return b"public" in directives or not self._private(request_headers, client_certificate)

    def store(
        self, target: bytes, request_headers: RawHeaders, reply_headers: RawHeaders, body: bytes, now: float
    ) -> None:
        """Keep a complete reply that is `storable`; nothing happens when it is too large."""
        entry = self._entry(reply_headers, body, now, len(target))
        if len(body) > self.config.max_entry or entry.size > self.config.max_bytes:
            return
        resource = self._resource_for(_key(target, request_headers), reply_headers)
        values = _values(resource.vary, request_headers)
        replaced = resource.replies.pop(values, None)
        resource.replies[values] = entry
        self.size += entry.size - (replaced.size if replaced else 0)
        while self.size > self.config.max_bytes:
            self._evict()

    def lookup(
        self, target: bytes, request_headers: RawHeaders, now: float, *, client_certificate: bool = False
    ) -> CachedReply | None:
        """The reply to the same GET, or None: never kept, too old, or not for this client."""
        key = _key(target, request_headers)
        resource = self._resources.get(key)
        if resource is None:
            return None
        values = _values(resource.vary, request_headers)
        entry = resource.replies.get(values)
        if entry is None or now > entry.until:
            return None
        if not entry.public and self._private(request_headers, client_certificate):
            return None
        self._resources.move_to_end(key)
        resource.replies.move_to_end(values)
        age = (b"Age", b"%d" % (now - entry.made))
        return CachedReply(200, [*entry.headers, age, (b"Cache-Status", _CACHE_STATUS)], entry.body)

    def invalidate(self, method: bytes, target: bytes, request_headers: RawHeaders, status: int) -> None:
        """Forget the target when an unsafe request to it succeeded (RFC 9111 4.4)."""
        if method in _SAFE_METHODS or not 200 <= status < 400:
            return
        self._forget(_key(target, request_headers))

    # ---- rules -------------------------------------------------------------------------------------

    def _private(self, request_headers: RawHeaders, client_certificate: bool) -> bool:
        """Whether the request carries credentials that don't tell apart the replies kept (`cache.vary`)."""
        unkeyed = [name for name in _CREDENTIALS if name not in self._vary]
        return client_certificate or _has(request_headers, unkeyed)

    def _too_long(self, reply_headers: RawHeaders) -> bool:
        length = _field(reply_headers, b"content-length")
        return length is not None and length.isdigit() and int(length) > self.config.max_entry

    def _entry(self, reply_headers: RawHeaders, body: bytes, now: float, key_size: int) -> _Entry:
        headers = _kept(reply_headers)
        directives = _directives(reply_headers)
        age = _seconds(_field(reply_headers, b"age") or b"0")
        longest = self.config.stale_if_error
        if b"s-maxage" in directives:  # forbids a shared cache to serve it stale (RFC 9111 4.2.4)
            longest = min(longest, _seconds(directives[b"s-maxage"]))
        size = len(body) + key_size + _ENTRY_OVERHEAD
        size += sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in headers)
        made = now - age
        return _Entry(headers, body, made, made + longest, b"public" in directives, size)

    # ---- bytes -------------------------------------------------------------------------------------

    def _resource_for(self, key: tuple[bytes, bytes], reply_headers: RawHeaders) -> _Resource:
        vary = tuple(sorted(self._vary | _vary_of(reply_headers)))
        resource = self._resources.get(key)
        if resource is None or resource.vary != vary:
            self._forget(key)
            resource = self._resources[key] = _Resource(vary)
        self._resources.move_to_end(key)
        return resource

    def _forget(self, key: tuple[bytes, bytes]) -> None:
        gone = self._resources.pop(key, None)
        if gone is not None:
            self.size -= sum(entry.size for entry in gone.replies.values())

    def _evict(self) -> None:
        """Drop the oldest reply of the resource that was used least lately, and the resource when empty."""
        key, resource = next(iter(self._resources.items()))
        self.size -= resource.replies.popitem(last=False)[1].size
        if not resource.replies:
            del self._resources[key]


# ---- fields ----------------------------------------------------------------------------------------


def _field(headers: RawHeaders, wanted: bytes) -> bytes | None:
    """The lines of a field as one list (RFC 9110 5.2), or None."""
    lines = [value for name, value in headers if name.lower() == wanted]
    return b", ".join(lines) if lines else None


def _has(headers: RawHeaders, wanted: Iterable[bytes]) -> bool:
    return any(name.lower() in wanted for name, _ in headers)


def _list(value: bytes | None) -> frozenset[bytes]:
    return frozenset(item.strip().lower() for item in (value or b"").split(b",") if item.strip())


def _vary_of(headers: RawHeaders) -> frozenset[bytes]:
    return _list(_field(headers, b"vary"))


def _directives(headers: RawHeaders) -> dict[bytes, bytes]:
    """The directives of `Cache-Control`; text inside quotes is never taken for one."""
    value = _field(headers, b"cache-control")
    found = _DIRECTIVE.finditer(value) if value else ()
    return {item[1].lower(): item[2] or b"" for item in found if item[1]}


def _seconds(value: bytes) -> int:
    """Delta-seconds; what is no number is 0 in a directive: stale at once (RFC 9111 4.2.1)."""
    value = value.strip(b'" ')
    return min(int(value), 2**31) if value.isdigit() and len(value) < 20 else 0


def _key(target: bytes, request_headers: RawHeaders) -> tuple[bytes, bytes]:
    return (_field(request_headers, b"host") or b"").lower(), target


def _values(vary: tuple[bytes, ...], request_headers: RawHeaders) -> tuple[bytes | None, ...]:
    return tuple(_field(request_headers, name) for name in vary)


def _kept(headers: RawHeaders) -> RawHeaders:
    dropped = _UNKEPT | _list(_field(headers, b"connection"))
    return [item for item in headers if item[0].lower() not in dropped]
