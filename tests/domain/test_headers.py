from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from trio_gateway.config.model import HeaderChanges, HeadersConfig
from trio_gateway.domain.headers import (
    Hop,
    RawHeaders,
    RequestRule,
    compile_request,
    compile_response,
    request_id,
)
from trio_gateway.domain.location import compile_location
from trio_gateway.errors import BadRequest, LoopDetected

HOP = Hop(b"id-1", b"192.0.2.7", False, b"https", b"gw.example", b"/orchestrator/users", b"1.1")
TRUSTED = evolve(HOP, trusted=True)
OURS: RawHeaders = [
    (b"X-Request-ID", b"id-1"),
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"gw.example"),
    (b"X-Forwarded-Prefix", b"/orchestrator/users"),
    (b"Via", b"1.1 trio-gateway"),
]
TO_CLIENT: RawHeaders = [
    (b"X-Orchestrated-By", b"Orchestrator-API"),
    (b"X-Endpoint-ID", b"users"),
    (b"Via", b"1.1 trio-gateway"),
    (b"X-Response-Time", b"0.123s"),
    (b"X-Request-ID", b"id-1"),
]


def to_upstream(headers: RawHeaders, hop: Hop = HOP, rules: HeadersConfig | None = None) -> RawHeaders:
    rule = compile_request(
        rules or HeadersConfig(), authority=b"backend:8080", request_id_header=b"X-Request-ID", tls=False
    )
    return rule(headers, hop)


def to_client(
    headers: RawHeaders, rules: HeadersConfig | None = None, *, rewrites: bool = False
) -> RawHeaders:
    rule = compile_response(
        rules or HeadersConfig(),
        endpoint_id=b"users",
        request_id_header=b"X-Request-ID",
        location=compile_location(b"backend:8080", b"/v1", tls=False) if rewrites else None,
    )
    return rule(headers, HOP, 0.1234)


def only(headers: RawHeaders, *names: bytes) -> RawHeaders:
    return [field for field in headers if field[0].lower() in names]


# ---- towards the upstream


def test_a_bare_request() -> None:
    """The upstream sees the target's Host and our documented fields; nothing else is invented."""
    assert to_upstream([(b"Host", b"gw.example")]) == [(b"Host", b"backend:8080"), *OURS]


def test_fields_pass_as_they_are() -> None:
    """Order, duplicates, case and octets of end-to-end fields are the client's."""
    fields = [
        (b"x-B", b"1"),
        (b"AUTHORIZATION", b"Bearer t"),
        (b"Cookie", b"a=1"),
        (b"x-b", b"\xff\xfe "),
        (b"X-API-Key", b"k"),
        (b"cookie", b"b=2"),
        (b"X-Empty", b""),
        (b"x_plain", b"1"),
    ]
    assert to_upstream([*fields[:3], (b"hOST", b"gw.example"), *fields[3:]])[1:-6] == fields


@pytest.mark.parametrize(
    "name",
    (
        b"Connection Keep-Alive TE Trailer Trailers Transfer-Encoding Upgrade HTTP2-Settings Content-Length "
        b"Expect Proxy Proxy-Connection Proxy-Authorization Proxy-Authenticate Content_Length "
        b"Transfer_Encoding Forwarded X-Real-IP X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host "
        b"X-Forwarded-Prefix X-Forwarded-Port X-Forwarded-Client-Cert X-Request-ID "
        b"X_Forwarded_For X-Forwarded_For x_real-ip X_REQUEST_ID x_forwarded_user"
    ).split(),
)
def test_a_client_cannot_send(name: bytes) -> None:
    """Connection-bound fields, and what only a trusted proxy may say, in any case or with underscores."""
    for spelling in (name, name.lower(), name.upper()):
        assert to_upstream([(b"Host", b"gw.example"), (spelling, b"close")]) == to_upstream([])


def test_nominated_fields_go() -> None:
    """What `Connection` names is the last hop's and ends here, but never one of ours."""
    headers = [
        (b"X-Secret", b"1"),
        (b"connection", b"close, x-secret, X-Request-ID, X-Forwarded-For, Via"),
        (b"Connection", b"Te"),
        (b"Via", b"1.0 fred"),
        (b"X-Kept", b"2"),
        (b"x-SECRET", b"3"),
    ]
    sent = to_upstream(headers)
    assert only(sent, b"x-secret", b"x-kept") == [(b"X-Kept", b"2")]
    assert only(sent, b"x-request-id", b"x-forwarded-for") == OURS[:2]
    assert only(sent, b"via") == [(b"Via", b"1.0 fred"), OURS[-1]]


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"close,  Authorization"])
def test_refused_nominations(name: bytes) -> None:
    """Host, Content-Length and Authorization cannot be nominated away."""
    with pytest.raises(BadRequest):
        to_upstream([(b"Authorization", b"x"), (b"Connection", name)])


def test_trusted_proxies_are_believed() -> None:
    """X-Forwarded-For is continued, what else a trusted proxy says stands, and the rest is ours."""
    said = [
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"Forwarded", b"for=203.0.113.9"),
        (b"X-Real-IP", b"203.0.113.9"),
        (b"X-Forwarded-Port", b"8443"),
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X_Forwarded_For", b"forged"),
        (b"Connection", b"X-Forwarded-For, X-Forwarded-Host"),
    ]
    sent = to_upstream(said, TRUSTED)
    assert sorted(sent[1:]) == sorted(
        [
            *said[1:4],
            (b"Forwarded", b"for=192.0.2.7;proto=https"),
            (b"X-Forwarded-Host", b"shop.example"),
            (b"X-Forwarded-For", b"203.0.113.9, 198.51.100.1, 192.0.2.7"),
            *(field for field in OURS if field[0] not in (b"X-Forwarded-Host", b"X-Forwarded-For")),
        ]
    )


def test_a_peer_without_an_address() -> None:
    """Through a Unix socket: nothing is said of it, and what it says of others stands."""
    nameless = evolve(HOP, peer=b"")
    assert not only(to_upstream([(b"X-Forwarded-For", b"a")], nameless), b"x-forwarded-for")
    said = [(b"X-Forwarded-For", b"203.0.113.9"), (b"Forwarded", b"for=203.0.113.9")]
    sent = to_upstream(said, evolve(nameless, trusted=True))
    assert only(sent, b"x-forwarded-for", b"forwarded") == [
        said[1],
        (b"Forwarded", b"for=unknown;proto=https"),
        said[0],
    ]


@pytest.mark.parametrize(
    ("hop", "host", "sent"),
    [
        (HOP, "rewrite", b"backend:8080"),
        (HOP, "preserve", b"gw.example"),
        (evolve(HOP, host=b""), "preserve", b"backend:8080"),
    ],
)
def test_host(hop: Hop, host: Any, sent: bytes) -> None:
    """One Host, first in the head: the target's, or the client's where it is preserved and known."""
    headers = to_upstream([(b"Accept", b"*/*"), (b"Host", b"other")], hop, HeadersConfig(host=host))
    assert headers[0] == (b"Host", sent)
    assert len(only(headers, b"host")) == 1


@pytest.mark.parametrize(
    ("authority", "tls", "host"),
    [(b"a:443", True, b"a"), (b"a:80", False, b"a"), (b"a:80", True, b"a:80"), (b"[::80]", False, b"[::80]")],
)
def test_host_without_default_port(authority: bytes, tls: bool, host: bytes) -> None:
    """The scheme's own port is left out of Host, as clients do."""
    rule = compile_request(HeadersConfig(), authority=authority, request_id_header=b"X-Request-ID", tls=tls)
    assert rule([], HOP)[0] == (b"Host", host)


def test_nothing_empty_is_said() -> None:
    """Without a Host, or without a prefix, there is no X-Forwarded field for it."""
    sent = to_upstream([], evolve(HOP, host=b"", prefix=b""))
    assert only(sent, b"x-forwarded-host", b"x-forwarded-prefix") == []
    assert (b"X-Forwarded-For", b"192.0.2.7") in sent


@pytest.mark.parametrize(
    ("version", "via"), [(b"1.0", b"1.0"), (b"1.1", b"1.1"), (b"2", b"2"), (b"9", b"1.1")]
)
def test_via_names_the_protocol(version: bytes, via: bytes) -> None:
    """Via tells which version the request came in (RFC 9110 7.6.3)."""
    assert to_upstream([], evolve(HOP, version=version))[-1] == (b"Via", via + b" trio-gateway")


@pytest.mark.parametrize(
    "values",
    [
        [b"1.1 trio-gateway, 1.1 trio-gateway, 1.1 trio-gateway"],
        [b"1.1 trio-gateway"] * 3,
        [b"HTTP/1.1 TRIO-Gateway (x),2 trio-gateway", b"1.0 fred,\t1.1\ttrio-gateway, 1.1 p"],
    ],
)
def test_loops_end(values: list[bytes]) -> None:
    """Our own name three times in Via is a circle."""
    with pytest.raises(LoopDetected):
        to_upstream([(b"via", value) for value in values])


CERTIFIED = evolve(HOP, client_certificate=b'Hash=ab;Subject="CN=alice"')


def identifying(rules: HeadersConfig | None = None) -> RequestRule:
    return compile_request(
        rules or HeadersConfig(),
        authority=b"backend",
        request_id_header=b"X-Request-ID",
        tls=False,
        client_certificates=True,
    )


def test_a_verified_certificate_is_told() -> None:
    """Where one was shown; and the field can't be nominated away."""
    rule = identifying()
    told = rule([(b"Connection", b"x-forwarded-client-cert")], CERTIFIED)
    assert only(told, b"x-forwarded-client-cert") == [
        (b"X-Forwarded-Client-Cert", b'Hash=ab;Subject="CN=alice"')
    ]
    assert only(rule([], HOP), b"x-forwarded-client-cert") == []


@pytest.mark.parametrize("hop", [HOP, TRUSTED, CERTIFIED])
@pytest.mark.parametrize(
    "name", [b"X-Forwarded-Client-Cert", b"x_forwarded_client_cert", b"X-Forwarded_Client-CERT"]
)
def test_a_certificate_can_t_be_claimed(name: bytes, hop: Hop) -> None:
    """In no spelling, and by nobody: what a trusted proxy says of its clients, it can say in other fields."""
    for rule in (identifying(), partial(to_upstream)):
        values = [value for key, value in rule([(name, b"forged")], hop) if value == b"forged"]
        assert values == []


def test_config_has_the_last_word_over_the_certificate_too() -> None:
    """An operator can keep it from a backend."""
    rules = HeadersConfig(request=HeaderChanges(remove=("X-Forwarded-Client-Cert",)))
    assert only(identifying(rules)([], CERTIFIED), b"x-forwarded-client-cert") == []


def test_chains_pass() -> None:
    """Two gateways of our name, and names that only contain it, are no loop."""
    vias = [
        (b"VIA", b"1.1 trio-gateway, 1.1 my-trio-gateway, 1.1 trio-gateway-2"),
        (b"via", b"1.1 trio-gateway"),
    ]
    assert only(to_upstream(vias), b"via") == [*vias, OURS[-1]]


def test_via_can_be_off() -> None:
    """`via: false` adds no name of ours and leaves those of others."""
    rules = HeadersConfig(via=False)
    assert only(to_upstream([(b"Via", b"1.1 fred")], rules=rules), b"via") == [(b"Via", b"1.1 fred")]
    assert only(to_client([(b"Via", b"1.1 fred")], rules), b"via") == [(b"Via", b"1.1 fred")]


def test_configured_request_fields() -> None:
    """`remove` and `set` replace the client's fields, look-alikes too; `add` stands beside them."""
    changes = HeaderChanges(set={"X-Api-Key": "ours"}, add={"X-Tag": "2"}, remove=("Cookie",))
    headers = [(b"x-api-key", b"1"), (b"X_API_KEY", b"2"), (b"X-Tag", b"1"), (b"cookie", b"a=1")]
    sent = to_upstream(headers, rules=HeadersConfig(request=changes))
    assert sent[1:-6] == [(b"X-Tag", b"1"), (b"X-Api-Key", b"ours"), (b"X-Tag", b"2")]


@pytest.mark.parametrize("hop", [HOP, TRUSTED])
def test_config_has_the_last_word_over_ours(hop: Hop) -> None:
    """An operator can replace or remove what we would say, a client can't bring it back."""
    changes = HeaderChanges(
        set={"X-Forwarded-Proto": "http"}, remove=("x-forwarded-for", "Via", "X-Request-ID")
    )
    headers = [(b"X-Forwarded-For", b"1"), (b"X-Forwarded-Proto", b"gopher"), (b"X-Request-ID", b"2")]
    sent = to_upstream(headers, hop, HeadersConfig(request=changes))
    assert [field for field in sent[1:] if field not in OURS[3:5]] == [(b"X-Forwarded-Proto", b"http")]


def test_endpoints_do_not_share_rules() -> None:
    """What one endpoint drops, another passes, whatever was learnt in between."""
    headers = [(b"Cookie", b"a=1")]
    rules = HeadersConfig(request=HeaderChanges(remove=("cookie",)))
    assert only(to_upstream(headers, rules=rules), b"cookie") == []
    assert only(to_upstream(headers), b"cookie") == headers


# ---- towards the client


def test_a_bare_reply() -> None:
    """The client sees our documented fields and nothing else that the upstream did not send."""
    assert to_client([]) == TO_CLIENT


def test_reply_fields_pass_as_they_are() -> None:
    """Set-Cookie twice, case, order and obs-text octets reach the client unchanged."""
    fields = [
        (b"set-cookie", b"a=1; Path=/v1"),
        (b"CONTENT-type", b"text/html"),
        (b"Set-Cookie", b"b=2"),
        (b"X-Odd", b"\xe9\xff"),
        (b"Location", b"http://backend:8080/v1/x"),
        (b"WWW-Authenticate", b"Basic"),
    ]
    assert to_client(fields)[:-5] == fields


@pytest.mark.parametrize(
    "name",
    (
        b"Keep-Alive TE Trailer Transfer-Encoding Upgrade Content-Length Proxy-Authenticate Proxy-Connection "
        b"Server X-Orchestrated-By X-Response-Time X-Endpoint-ID X-Request-ID"
    ).split(),
)
def test_an_upstream_cannot_send(name: bytes) -> None:
    """Connection-bound fields, Server, and those that are ours to say."""
    assert to_client([(name, b"x"), (name.lower(), b"y")]) == TO_CLIENT


def test_nominated_reply_fields_go() -> None:
    """What the upstream's `Connection` names ends here, whatever it is."""
    assert to_client([(b"X-A", b"1"), (b"Connection", b"close, X-A, X-Endpoint-ID")]) == TO_CLIENT


def test_one_date() -> None:
    """The first Date stands."""
    dates = [(b"date", b"first"), (b"Date", b"second")]
    assert to_client(dates) == [dates[0], *TO_CLIENT]


def test_configured_response_fields() -> None:
    """Configured changes apply to replies, over ours too."""
    changes = HeaderChanges(
        set={"Cache-Control": "no-store"},
        add={"X-Tag": "2"},
        remove=("x-orchestrated-by", "X-Response-Time", "Date"),
    )
    headers = [(b"cache-control", b"public"), (b"X-Tag", b"1"), (b"Date", b"now")]
    assert to_client(headers, HeadersConfig(response=changes)) == [
        (b"X-Tag", b"1"),
        (b"Cache-Control", b"no-store"),
        (b"X-Tag", b"2"),
        *TO_CLIENT[1:3],
        TO_CLIENT[4],
    ]


def test_locations_and_cookies_are_rewritten_in_place() -> None:
    """With a rewriter, Location, Content-Location and Set-Cookie speak the client's language."""
    headers = [
        (b"LOCATION", b"http://backend:8080/v1/x?y"),
        (b"Content-Location", b"/v1/x"),
        (b"Set-Cookie", b"a=1; Path=/v1"),
        (b"Link", b"</v1/x>"),
    ]
    assert to_client(headers, rewrites=True)[:-5] == [
        (b"LOCATION", b"https://gw.example/orchestrator/users/x?y"),
        (b"Content-Location", b"/orchestrator/users/x"),
        (b"Set-Cookie", b"a=1; Path=/orchestrator/users"),
        (b"Link", b"</v1/x>"),
    ]


# ---- under which id


@pytest.mark.parametrize("inbound", [b"a", b"!" * 128, b"0af7651916cd43dd8448eb211c80319c"])
def test_acceptable_ids_are_kept(inbound: bytes) -> None:
    """A trusted inbound id of graphic ASCII goes on as it is."""
    assert request_id(inbound, trust=True) == inbound


@pytest.mark.parametrize("inbound", [None, b"", b"a b", b"a\n", b"\xc3\xa9", b"a" * 129, b"a\x7f"])
def test_other_ids_are_replaced(inbound: bytes | None) -> None:
    """No id, an unprintable, spaced or overlong one gets a fresh one."""
    assert request_id(inbound, True, lambda: b"fresh") == b"fresh"


def test_untrusted_ids_are_replaced() -> None:
    """Where inbound ids are not believed, a new UUID is made each time."""
    ids = {request_id(b"mine", trust=False) for _ in range(64)}
    assert len(ids) == 64
    for id_ in ids:
        parsed = UUID(id_.decode())
        assert (parsed.version, str(parsed)) == (4, id_.decode())
        assert parsed.variant == "specified in RFC 4122"
