"""Rules that compare one field with another. What a single field may hold, its type says.

A rule yields (path, message) pairs; it neither stops the others nor knows about files. `check` yields
what forbids a config, `advise` what its author probably did not mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from trio_gateway.config.addresses import is_loopback
from trio_gateway.config.binds import TcpBind, parse_bind
from trio_gateway.config.model import EndpointConfig, EndpointTls, GatewayConfig
from trio_gateway.config.positions import Positions
from trio_gateway.config.problems import Path, Problem

Finding = tuple[Path, str]

MANAGEMENT_ROOTS = frozenset(
    {
        "circuit-breaker",
        "config",
        "docs",
        "endpoints",
        "health",
        "livez",
        "openapi.json",
        "readyz",
        "redoc",
        "registry",
        "router",
        "stats",
    }
)
"""The first segments of the management API's paths, which no proxied path may hide."""


def check(config: GatewayConfig, positions: Positions | None = None) -> list[Problem]:
    """Every contradiction in `config`; empty when there is none."""
    positions = positions or Positions()
    return _problems(positions, (*_gateway_findings(config), *_endpoint_findings(config, positions)))


def advise(config: GatewayConfig, positions: Positions | None = None) -> list[Problem]:
    """What `config` says that does nothing: keys that wait, endpoints that nobody can reach."""
    positions = positions or Positions()
    return _problems(positions, (*_idle_certificates(config), *_unreachable(config), *_nowhere(config)))


def _problems(positions: Positions, findings: Iterable[Finding]) -> list[Problem]:
    return [positions.problem(path, message) for path, message in findings]


# ---- the whole gateway ----------------------------------------------------------------------------


def _gateway_findings(config: GatewayConfig) -> Iterator[Finding]:
    for rule in _GATEWAY_RULES:
        yield from rule(config)


def _listeners(config: GatewayConfig) -> Iterator[Finding]:
    addresses = [bind.address for bind in config.server.bind]
    if not addresses:
        yield ("server", "bind"), "must name at least one address"
    for index, address in enumerate(addresses):
        if address in addresses[:index] and not _is_chosen(address):
            yield ("server", "bind", index), "is listed twice"
        if config.server.bind[index].proxy_protocol and not config.server.trusted_proxies:
            yield ("server", "bind", index, "proxy_protocol"), "needs server.trusted_proxies: who is believed"


def _is_chosen(address: str) -> bool:
    """Whether the system chooses the port, another one each time."""
    bind = parse_bind(address)
    return isinstance(bind, TcpBind) and bind.port == 0


def _server_tls(config: GatewayConfig) -> Iterator[Finding]:
    """Every certificate has its key, and who asks for TLS has a certificate."""
    server, path = config.server, ("server", "tls")
    tls = server.tls
    if tls.cert and not tls.key:
        yield (*path, "cert"), "needs server.tls.key"
    if tls.key and not tls.cert:
        yield (*path, "key"), "needs server.tls.cert"
    if tls.pairs:
        return
    if tls.client_ca:
        yield (*path, "client_ca"), "needs a certificate of our own: server.tls.cert and key"
    for index, bind in enumerate(server.bind):
        if bind.tls:
            yield ("server", "bind", index, "tls"), "needs a certificate: server.tls.cert and key"


def _own_listeners(config: GatewayConfig) -> Iterator[Finding]:
    """`admin.bind` and `metrics.bind` are addresses that nothing else has."""
    taken = dict.fromkeys((bind.address for bind in config.server.bind), "server.bind")
    for block, bind in (("admin", config.admin.bind), ("metrics", config.metrics.bind)):
        if bind is None:
            continue
        if bind in taken and not _is_chosen(bind):
            yield (block, "bind"), f"is an address of {taken[bind]}"
        taken.setdefault(bind, f"{block}.bind")


def _prefix(config: GatewayConfig) -> Iterator[Finding]:
    """Beside the management API, no proxied path may hide one of its own."""
    prefix = config.server.prefix
    if config.admin.bind is not None:
        return
    if prefix == "/":
        yield ("server", "prefix"), "`/` needs admin.bind: it would hide the management API"
    elif prefix.split("/")[1] in MANAGEMENT_ROOTS:
        yield ("server", "prefix"), "would hide paths of the management API; it needs admin.bind"


def _metrics_path(config: GatewayConfig) -> Iterator[Finding]:
    path, prefix = config.metrics.path, config.server.prefix
    if path == "/" or path.split("/")[1] in MANAGEMENT_ROOTS:
        yield ("metrics", "path"), "is a path of the management API"
    elif config.admin.bind is None and (path == prefix or path.startswith(prefix + "/")):
        yield ("metrics", "path"), "must not lie under server.prefix"


def _admin_keys(config: GatewayConfig) -> Iterator[Finding]:
    """One source of keys, and only algorithms that go with it: no token may choose what verifies it."""
    if config.admin.auth == "none":
        return
    jwt, path = config.admin.auth.jwt, ("admin", "auth", "jwt")
    given = [name for name in ("secret", "secret_file", "public_key_file", "jwks_url") if getattr(jwt, name)]
    if len(given) > 1:
        yield (*path, given[1]), f"is a second source of keys beside {given[0]}"
    public = bool({"public_key_file", "jwks_url"}.intersection(given))
    fitting = {"RS256", "ES256"} if public else {"HS256"}
    if not jwt.algorithms or not fitting.issuperset(jwt.algorithms):
        names = " or ".join(sorted(fitting, reverse=True))
        yield (*path, "algorithms"), f"must be {names} with {given[0] if given else 'a secret'}"
    if jwt.jwks_url and jwt.jwks_url.startswith("http:") and not is_loopback(_host_of(jwt.jwks_url)):
        yield (*path, "jwks_url"), "must be https: who can change the keys on their way can sign tokens"


def _admin_origins(config: GatewayConfig) -> Iterator[Finding]:
    if config.admin.auth == "none" and not {"*", "null"}.isdisjoint(config.admin.cors.origins):
        yield ("admin", "cors", "origins"), "must be named: with `auth: none` any page could write"


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _same_match(config: GatewayConfig) -> Iterator[Finding]:
    first: dict[object, int] = {}
    for index, endpoint in enumerate(config.endpoints):
        key = match_key(endpoint)
        same = index if key is None else first.setdefault(key, index)
        if same != index:
            yield ("endpoints", index, "match"), f"is identical with that of `{config.endpoints[same].id}`"


def match_key(endpoint: EndpointConfig) -> object | None:
    """Equal for endpoints whose `match` blocks are identical; None without a route by `match.prefix`."""
    match = endpoint.match
    if match.prefix is None:  # it only narrows the name's route, which is its own
        return None
    headers = frozenset((name.lower(), value) for name, value in match.headers.items())
    sets = frozenset(match.hosts), frozenset(match.methods), headers, frozenset(match.query.items())
    return match.prefix, match.priority, sets


_GATEWAY_RULES: tuple[Callable[[GatewayConfig], Iterator[Finding]], ...] = (
    _listeners,
    _server_tls,
    _own_listeners,
    _prefix,
    _metrics_path,
    _admin_keys,
    _admin_origins,
    _same_match,
)


# ---- one endpoint ---------------------------------------------------------------------------------


def _endpoint_findings(config: GatewayConfig, positions: Positions) -> Iterator[Finding]:
    for index, endpoint in enumerate(config.endpoints):
        for path, message in endpoint_findings(endpoint):
            yield ("endpoints", index, *path), message
        if (
            positions.given(index, "tls")
            and endpoint.url.startswith("http:")
            and endpoint.tls != EndpointTls()
        ):
            yield ("endpoints", index, "tls"), "applies to https urls only"


def endpoint_findings(endpoint: EndpointConfig) -> Iterator[Finding]:
    """The contradictions inside one endpoint, by paths that begin at the endpoint."""
    for rule in _ENDPOINT_RULES:
        yield from rule(endpoint)


def _credentials(endpoint: EndpointConfig) -> Iterator[Finding]:
    if endpoint.cors.credentials and "*" in endpoint.cors.origins:
        yield ("cors", "credentials"), "must not be allowed for all origins (`*`)"


def _client_certificate(endpoint: EndpointConfig) -> Iterator[Finding]:
    cert, key = endpoint.tls.cert, endpoint.tls.key
    if cert and not key:
        yield ("tls", "cert"), "needs tls.key"
    if key and not cert:
        yield ("tls", "key"), "needs tls.cert"


def _rate_mode(endpoint: EndpointConfig) -> Iterator[Finding]:
    breaker = endpoint.circuit_breaker
    window = breaker.sliding_window
    if breaker.failure_rate_threshold is None or window.type != "count":
        return
    if breaker.minimum_number_of_calls > window.size:
        message = f"is more than the sliding window holds ({window.size}): the rate would never be judged"
        yield ("circuit_breaker", "minimum_number_of_calls"), message


def _header_names(endpoint: EndpointConfig) -> Iterator[Finding]:
    for side in ("request", "response"):
        changes = getattr(endpoint.headers, side)
        for action in ("set", "add"):
            names: dict[str, str] = {}
            for name in getattr(changes, action):
                first = names.setdefault(name.lower(), name)
                if first != name:
                    yield ("headers", side, action, name), f"is the same header as `{first}`"


_ENDPOINT_RULES: tuple[Callable[[EndpointConfig], Iterator[Finding]], ...] = (
    _credentials,
    _client_certificate,
    _rate_mode,
    _header_names,
)


# ---- advice ---------------------------------------------------------------------------------------


def _idle_certificates(config: GatewayConfig) -> Iterator[Finding]:
    server = config.server
    if server.tls.pairs and not any(map(server.speaks_tls, server.bind)):
        yield ("server", "tls"), "is for nobody: every listener says `tls: false`"


def _unreachable(config: GatewayConfig) -> Iterator[Finding]:
    for index, endpoint in enumerate(config.endpoints):
        if endpoint.name is None and endpoint.match.prefix is None:
            yield ("endpoints", index), "has no route: give it a name or a match.prefix"
        if not endpoint.methods:
            yield ("endpoints", index, "methods"), "is empty: every request gets 405"


def _nowhere(config: GatewayConfig) -> Iterator[Finding]:
    """The old gateway took `redirect` without a url, and answered as `error_response` does."""
    for index, endpoint in enumerate(config.endpoints):
        breaker = endpoint.circuit_breaker
        if breaker.fallback_strategy == "redirect" and breaker.redirect_url is None:
            path = ("endpoints", index, "circuit_breaker", "fallback_strategy")
            yield path, "`redirect` without redirect_url answers as `error_response`"
