"""What a gateway changes in a message's fields, in both directions (RFC 9110 7.6).

Order decides who wins. First goes what belongs to the sender's connection, with all that its
`Connection` field nominates; then the configured changes; our own fields come last. So no client can
have one of ours stripped by nominating it, or forge it, and only an operator's config can replace one.
All other fields pass in their order, with their case, duplicates and octets.

Names with underscores that look like a name we act on are dropped: CGI and WSGI backends read
`X_Forwarded_For` and `X-Forwarded-For` as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import chain

from trio_gateway.config.model import HeadersConfig
from trio_gateway.domain.chance import hex_digits
from trio_gateway.domain.fields import (
    PSEUDONYM,
    Changes,
    Fate,
    Fates,
    Hop,
    RawHeaders,
    bound_to_connection,
    connection_options,
    without,
)
from trio_gateway.domain.forwarded import forwarded_element
from trio_gateway.domain.location import LocationRewriter
from trio_gateway.domain.trace import FIELDS, context_of, new_context
from trio_gateway.errors import BadRequest, LoopDetected

__all__ = [
    "Hop",
    "RawHeaders",
    "compile_request",
    "compile_response",
    "interim_fields",
    "request_id",
]

_RULES_REMEMBERED = 256  # endpoints whose rules drop the same names share one table
_LOOP = 3  # our own name so often in an inbound Via is a circle, not a chain of gateways

_DROP, _CONNECTION, _NOTE, _DATE = Fate.DROP, Fate.CONNECTION, Fate.NOTE, Fate.DATE
_TRACE = Fate.TRACE
_NONE_NOMINATED: frozenset[bytes] = frozenset()
_NEVER_NOMINATED = frozenset((b"host", b"content-length", b"authorization"))
_SET_FOR_UPSTREAM = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix")
)
_CLIENT_CERT = b"x-forwarded-client-cert"
_REWRITTEN = {b"location": Fate.URI, b"content-location": Fate.URI, b"set-cookie": Fate.COOKIE}
_OURS_TO_CLIENT = frozenset((b"x-orchestrated-by", b"x-response-time", b"x-endpoint-id", b"server"))

_VIA = {version: (b"Via", version + b" " + PSEUDONYM) for version in (b"1.0", b"1.1", b"2")}
_VIA_HTTP_1_1 = _VIA[b"1.1"]
_our_via = re.compile(rb"(?i)(?:^|,)[ \t]*(?:HTTP/)?[0-9.]+[ \t]+" + PSEUDONYM + rb"(?=[ \t,(]|$)").findall

_acceptable_id = re.compile(rb"[!-~]{1,128}").fullmatch

RequestRule = Callable[[RawHeaders, Hop], RawHeaders]
ResponseRule = Callable[[RawHeaders, Hop, float], RawHeaders]


# ---- towards the upstream ---------------------------------------------------------------------------


def compile_request(
    rules: HeadersConfig,
    *,
    authority: bytes,
    request_id_header: bytes,
    tls: bool,
    traces: bool = False,
    client_certificates: bool = False,
) -> RequestRule:
    """The rule that turns a client's fields into the upstream's; framing fields are left to the caller.

    `authority` is the target's; its port is left out of Host where it is the scheme's (`tls`). The rule
    raises BadRequest when `Connection` nominates Host, Content-Length or Authorization, LoopDetected when
    the request came through here three times. With `traces` it continues the request's trace or begins one,
    with `client_certificates` it tells the upstream whose certificate the client showed.
    """
    changes = Changes.of(rules.request)
    configured = changes.fields
    rewritten = (b"Host", authority.removesuffix(b":443" if tls else b":80"))
    preserve = rules.host == "preserve"
    dropped = changes.replaced | {b"host", request_id_header.lower()}
    ours_replaced = changes.replaced & {*_SET_FOR_UPSTREAM, b"via", request_id_header.lower()}
    if not rules.via:
        ours_replaced |= {b"via"}
    traces = traces and FIELDS.isdisjoint({*changes.replaced, *(name.lower() for name, _ in configured)})
    from_anyone, from_trusted = _request_fates(dropped, False), _request_fates(dropped, True)

    def request_rule(headers: RawHeaders, hop: Hop) -> RawHeaders:
        fates = from_trusted if hop.trusted else from_anyone
        kept: RawHeaders = []
        keep = kept.append
        nominated = _NONE_NOMINATED
        noted: RawHeaders | None = None
        traced = False
        for field in headers:
            fate = fates[field[0]]
            if fate is None:
                keep(field)
            elif fate is _TRACE:
                keep(field)
                traced = True
            elif fate is _CONNECTION:
                nominated |= connection_options(field[1])
            elif fate is _NOTE:
                noted = [*(noted or ()), field]
        if nominated:
            kept = _without_nominated(kept, nominated)
        ours = [
            (request_id_header, hop.request_id),
            (b"X-Forwarded-For", hop.peer),
            (b"X-Forwarded-Proto", hop.scheme),
            (b"X-Forwarded-Host", hop.host),
            (b"X-Forwarded-Prefix", hop.prefix),
            _VIA.get(hop.version, _VIA_HTTP_1_1),
        ]
        if ours_replaced:
            ours = without(ours, ours_replaced)
        if noted is not None:
            ours = _continued(ours, noted, hop)
        if not (hop.peer and hop.host and hop.prefix):
            ours = [field for field in ours if field[1]]
        if traces:
            kept = _traced(kept, hop, traced)
        host = (b"Host", hop.host) if preserve and hop.host else rewritten
        return [host, *kept, *configured, *ours]

    if client_certificates and _CLIENT_CERT not in changes.replaced:
        return _identifying(request_rule)
    return request_rule


def _identifying(request_rule: RequestRule) -> RequestRule:
    def identifying_rule(headers: RawHeaders, hop: Hop) -> RawHeaders:
        fields = request_rule(headers, hop)
        if hop.client_certificate:
            fields.append((b"X-Forwarded-Client-Cert", hop.client_certificate))
        return fields

    return identifying_rule


@lru_cache(maxsize=_RULES_REMEMBERED)
def _request_fates(dropped: frozenset[bytes], trusted: bool) -> Fates:
    look_alikes = {name.replace(b"_", b"-") for name in dropped}

    def judge(name: bytes) -> Fate | None:
        dashed = name.replace(b"_", b"-")
        if dashed in look_alikes:
            return _DROP
        fate = _inbound_fate(dashed, trusted=trusted)
        return fate if dashed == name or fate is None else _DROP

    return Fates(judge)


def _inbound_fate(name: bytes, *, trusted: bool) -> Fate | None:
    if name == b"connection":
        return _CONNECTION
    if name == b"via":
        return _NOTE
    if name in FIELDS:
        return _TRACE
    if bound_to_connection(name) or name == _CLIENT_CERT:  # whoever says it: we have not seen it
        return _DROP
    if trusted:
        return _NOTE if name in _SET_FOR_UPSTREAM or name == b"forwarded" else None
    speaks_for_others = name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip")
    return _DROP if speaks_for_others else None


def _without_nominated(kept: RawHeaders, nominated: frozenset[bytes]) -> RawHeaders:
    if nominated & _NEVER_NOMINATED:
        raise BadRequest("Connection nominates a field that cannot be dropped")
    return without(kept, nominated)


def _traced(kept: RawHeaders, hop: Hop, came: bool) -> RawHeaders:
    """The fields with a trace context: the one that came, or one that begins here, once for all attempts."""
    if came:
        context = context_of(kept)
        if context:
            hop.traceparent = context
            return kept
        kept = without(kept, FIELDS)
    if not hop.traceparent:
        hop.traceparent = new_context()
    kept.append((b"traceparent", hop.traceparent))
    return kept


def _continued(ours: RawHeaders, noted: RawHeaders, hop: Hop) -> RawHeaders:
    """Our fields behind those of hops before us: Via and the two Forwarded go on, the others stand."""
    before: dict[bytes, RawHeaders] = {}
    for field in noted:
        before.setdefault(field[0].lower(), []).append(field)
    vias, listed = before.pop(b"via", []), before.pop(b"x-forwarded-for", [])
    if sum(len(_our_via(value)) for _, value in vias) >= _LOOP:
        raise LoopDetected
    if elements := before.get(b"forwarded"):
        elements.append((b"Forwarded", forwarded_element(hop.peer, hop.scheme)))
    addresses = [value for _, value in listed]
    ours = [
        (name, b", ".join(filter(None, [*addresses, value])) if name == b"X-Forwarded-For" else value)
        for name, value in ours
        if name.lower() not in before
    ]
    return [*chain.from_iterable(before.values()), *vias, *ours]


# ---- towards the client -----------------------------------------------------------------------------


def compile_response(
    rules: HeadersConfig,
    *,
    endpoint_id: bytes,
    request_id_header: bytes,
    location: LocationRewriter | None,
    date: Callable[[], bytes] | None = None,
) -> ResponseRule:
    """The rule that turns an upstream's fields into the client's; its third argument is in seconds.

    Framing fields are left to the caller. `location` None leaves Location, Content-Location and Set-Cookie
    as they are. `date` is asked for a Date where the upstream sent none (RFC 9110 6.6.1).
    """
    changes = Changes.of(rules.response)
    dropped = changes.replaced | _OURS_TO_CLIENT | {request_id_header.lower()}
    fates = _response_fates(dropped, location is not None)
    constant = [(b"X-Orchestrated-By", b"Orchestrator-API"), (b"X-Endpoint-ID", endpoint_id)]
    if rules.via:
        constant.append(_VIA_HTTP_1_1)
    own = [*changes.fields, *without(constant, changes.replaced)]
    ours_replaced = changes.replaced & {b"x-response-time", request_id_header.lower()}
    if b"date" in changes.replaced:
        date = None

    def response_rule(headers: RawHeaders, hop: Hop, seconds: float) -> RawHeaders:
        kept: RawHeaders = []
        keep = kept.append
        nominated = _NONE_NOMINATED
        dated = False
        for field in headers:
            fate = fates[field[0]]
            if fate is None:
                keep(field)
            elif fate is _DATE:
                if not dated:
                    keep(field)
                dated = True
            elif fate is _CONNECTION:
                nominated |= connection_options(field[1])
            elif fate is not _DROP:
                keep(_rewritten(field, fate, location, hop))
        if nominated:
            kept = without(kept, nominated)
        if not dated and date is not None:
            kept.append((b"Date", date()))
        ours = [(b"X-Response-Time", b"%.3fs" % seconds), (request_id_header, hop.request_id)]
        if ours_replaced:
            ours = without(ours, ours_replaced)
        return [*kept, *own, *ours]

    return response_rule


def interim_fields(headers: RawHeaders) -> RawHeaders:
    """What of an interim reply's fields is the client's: neither its connection's nor in our name."""
    kept: RawHeaders = []
    nominated = _NONE_NOMINATED
    for field in headers:
        fate = _INTERIM_FATES[field[0]]
        if fate is _CONNECTION:
            nominated |= connection_options(field[1])
        elif fate is not _DROP:
            kept.append(field)
    return without(kept, nominated) if nominated else kept


@lru_cache(maxsize=_RULES_REMEMBERED)
def _response_fates(dropped: frozenset[bytes], rewrites: bool) -> Fates:
    rewritten = _REWRITTEN if rewrites else {}

    def judge(name: bytes) -> Fate | None:
        if name == b"connection":
            return _CONNECTION
        if name in dropped or bound_to_connection(name):
            return _DROP
        return _DATE if name == b"date" else rewritten.get(name)

    return Fates(judge)


_INTERIM_FATES = _response_fates(_OURS_TO_CLIENT, False)


def _rewritten(
    field: tuple[bytes, bytes], fate: Fate, location: LocationRewriter | None, hop: Hop
) -> tuple[bytes, bytes]:
    assert location is not None
    rewrite = location.cookie if fate is Fate.COOKIE else location.uri
    return field[0], rewrite(field[1], hop)


# ---- under which id ----------------------------------------------------------------------------------


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _uuid4() -> bytes:
    n = hex_digits(32)
    return f"{n[:8]}-{n[8:12]}-4{n[13:16]}-{_VARIANTS[n[16]]}{n[17:20]}-{n[20:]}".encode()


def request_id(inbound: bytes | None, trust: bool, fresh: Callable[[], bytes] = _uuid4) -> bytes:
    """The inbound id when it is trusted and 1 to 128 graphic ASCII octets; otherwise a `fresh` one."""
    if trust and inbound is not None and _acceptable_id(inbound):
        return inbound
    return fresh()
