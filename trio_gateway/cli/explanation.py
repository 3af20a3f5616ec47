"""What would become of a request: the gateway's own code asked, with nothing sent.

A runtime takes the config as it would for serving, over a network without a single address. The router,
the gates, the layers and the compiled joins and header rules are those that serve; only the last step,
taking a connection, is left out. Live state is that of a gateway which has just started.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import cast

import attrs
import trio
from attrs import frozen

from trio_gateway.cli.reasons import RouteTaken, match_of, nearly, route_taken, text_of
from trio_gateway.config.load import Loaded
from trio_gateway.config.model import EndpointConfig
from trio_gateway.config.show import HIDDEN, effective
from trio_gateway.domain.access import within
from trio_gateway.domain.forwarded import client_address, client_origin
from trio_gateway.domain.headers import Hop, request_id
from trio_gateway.domain.target import split_target
from trio_gateway.errors import GatewayError, RouteNotFound
from trio_gateway.proxy.compile import Endpoint, Gate
from trio_gateway.proxy.exchange import Exchange, Handler, ReplyWriter
from trio_gateway.proxy.forward import Attempt
from trio_gateway.proxy.handshake import Handshake
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.plan import Plan
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.websocket import offer_of
from trio_gateway.server.h1 import NoBody
from trio_gateway.wire.handshake import UPGRADE, asks_for_websocket
from trio_gateway.wire.request import RequestHead, parse_request

_NEW_ID = b"<a new id>"


@frozen
class Question:
    """A request as somebody asks about it: the head's bytes, who sends it, and whether over TLS.

    Where that is not said (None), it comes to the first listener as that wants it.
    """

    head: bytes
    peer: str
    tls: bool | None = None


@frozen
class Verdict:
    """What one gate says."""

    gate: str
    says: str


@frozen
class Sent:
    """What would go upstream, secrets of the config hidden."""

    connect_to: str
    url: str
    method: str
    headers: tuple[tuple[str, str], ...]


@frozen
class Answered:
    """What the gateway would answer by itself; no `status` where the request leaves the proxied paths."""

    status: int | None
    code: str
    detail: str


@frozen
class Explanation:
    """All that is known before anything is sent: either `sent` or `answered` is there."""

    method: str
    target: str
    host: str
    client: str
    route: RouteTaken | None = None
    gates: tuple[Verdict, ...] = ()
    layers: tuple[str, ...] = ()
    sent: Sent | None = None
    answered: Answered | None = None
    hints: tuple[str, ...] = ()


def explain(loaded: Loaded, question: Question) -> Explanation:
    """Ask the gateway of `loaded`. Raises ConfigError when its TLS files can't be used."""
    return trio.run(_explain, loaded, question)


async def _explain(loaded: Loaded, question: Question) -> Explanation:
    runtime = Runtime(MemoryNetwork())
    runtime.apply(loaded.config)
    found = Explanation("", "", "", question.peer)
    try:
        request = parse_request(question.head, loaded.config.server.limits)
        exchange = _exchange(request, question, runtime.plan)
        found = Explanation(
            text_of(request.method), text_of(request.target), text_of(request.host), exchange.client
        )
        return _ask(found, exchange, runtime.plan, loaded)
    except GatewayError as error:
        return attrs.evolve(found, answered=_answer(error))
    finally:
        runtime.close()


def _exchange(request: RequestHead, question: Question, plan: Plan) -> Exchange:
    """The exchange as the lane makes it. Raises BadRequest for a malformed target."""
    path, query, authority = split_target(request.target)
    request.host = authority or request.host
    server = plan.config.server
    tls = server.speaks_tls(server.bind[0]) if question.tls is None else question.tls
    networks = server.trusted_proxies
    trusted = within(question.peer, networks)
    name, tracing = plan.request_id_header.lower(), plan.config.tracing
    inbound = next((value for key, value in request.headers if key.lower() == name), None)
    hop = Hop(
        request_id=request_id(inbound, tracing.trust_inbound_request_id, lambda: _NEW_ID),
        peer=question.peer.encode(),
        trusted=trusted,
        scheme=b"https" if tls else b"http",
        host=request.host,
        prefix=b"",
        version=request.version,
    )
    client = question.peer
    if trusted:
        client = client_address(question.peer, request.headers, networks)
        hop.origin = client_origin(request.headers, hop.scheme, hop.host)
    body = NoBody()
    body.length = request.length
    writer = cast(ReplyWriter, None)  # nobody answers
    exchange = Exchange(request, body, writer, hop, client, trio.current_time(), "explain")
    exchange.path, exchange.query = path, query
    return exchange


def _ask(found: Explanation, exchange: Exchange, plan: Plan, loaded: Loaded) -> Explanation:
    """Go the request's way, gate by gate, as far as it leads."""
    path, prefix = exchange.path, plan.prefix
    if not (path == prefix or path.startswith(prefix + b"/")):
        detail = f"only what stands under {text_of(prefix)} is proxied"
        return attrs.evolve(found, answered=Answered(None, "not_proxied", detail))
    match = match_of(plan.router, exchange)
    if match is None:
        hints = tuple(nearly(exchange, plan))
        return attrs.evolve(found, answered=_answer(RouteNotFound()), hints=hints)
    exchange.rest, exchange.hop.prefix = match.rest, match.prefix
    found = attrs.evolve(found, route=route_taken(match, exchange, plan))
    endpoint, gates = match.value, list(match.value.gates)
    if asks_for_websocket(exchange.request):
        gates.append(_websocket_gate(endpoint))
    verdicts, refused = _through_gates(gates, exchange)
    found = attrs.evolve(found, gates=tuple(verdicts), answered=refused)
    if refused is not None:
        return found
    handler = endpoint.websocket if asks_for_websocket(exchange.request) else endpoint.handler
    assert handler is not None  # the gate has seen to it
    layers, attempt = unwrapped(handler)
    return attrs.evolve(found, layers=layers, sent=_sent(attempt, exchange, endpoint, loaded))


def _answer(error: GatewayError) -> Answered:
    return Answered(error.status, error.code, error.detail)


# ---- gates and layers -----------------------------------------------------------------------------


def _through_gates(gates: Sequence[Gate], exchange: Exchange) -> tuple[list[Verdict], Answered | None]:
    verdicts: list[Verdict] = []
    for gate in gates:
        name = _made_by(gate).strip("_").removesuffix("_gate")
        try:
            reply = gate(exchange)
        except GatewayError as error:
            return [*verdicts, Verdict(name, f"refuses with {error.status}")], _answer(error)
        if reply is not None:
            answered = Answered(reply.status, "answered", f"the {name} gate answers by itself")
            return [*verdicts, Verdict(name, f"answers {reply.status}")], answered
        verdicts.append(Verdict(name, "passes"))
    return verdicts, None


def _websocket_gate(endpoint: Endpoint) -> Gate:
    """What judges a WebSocket's handshake, in the place where it does."""

    def gate(exchange: Exchange) -> None:
        offer_of(exchange, endpoint)

    return gate


def unwrapped(handler: Handler) -> tuple[tuple[str, ...], Attempt]:
    """The names of the layers, outermost first, and the attempt inside them.

    A layer is a closure over the `handler` that it wraps, and is called what made it.
    """
    names: list[str] = []
    while not isinstance(handler, Attempt):
        names.append(_made_by(handler))
        handler = inspect.getclosurevars(handler).nonlocals["handler"]
    return tuple(names), handler


def _made_by(closure: object) -> str:
    return getattr(closure, "__qualname__", "").partition(".")[0]


# ---- what would be sent ---------------------------------------------------------------------------


def _sent(attempt: Attempt, exchange: Exchange, endpoint: Endpoint, loaded: Loaded) -> Sent:
    request, target = exchange.request, endpoint.upstream.target
    rest = attempt.join(exchange.rest, exchange.query)
    url = (b"https://" if target.tls else b"http://") + target.authority + rest
    fields = attempt.request_headers(request.headers, exchange.hop)
    if isinstance(attempt, Handshake):
        fields += UPGRADE
    index = loaded.config.endpoints.index(endpoint.config)
    shown = effective(loaded.config, loaded.positions)["endpoints"][index]
    secrets = _secret_fields(endpoint.config, shown)
    return Sent(
        connect_to=attempt.name,
        url=_without_secret_query(text_of(url), endpoint.config.url, shown["url"]),
        method=text_of(request.method),
        headers=tuple(secrets.get(field, field) for field in ((text_of(n), text_of(v)) for n, v in fields)),
    )


def _secret_fields(config: EndpointConfig, shown: dict[str, dict[str, dict[str, dict[str, str]]]]) -> _Fields:
    """The configured fields that `check` would not show, each with what it would."""
    hidden: _Fields = {}
    for action in ("set", "add"):
        for name, value in getattr(config.headers.request, action).items():
            hidden[(name, value)] = (name, shown["headers"]["request"][action][name])
    return hidden


_Fields = dict[tuple[str, str], tuple[str, str]]


def _without_secret_query(url: str, configured: str, shown: str) -> str:
    query, shown_query = configured.partition("?")[2], shown.partition("?")[2]
    if not query or query == shown_query:
        return url
    return url.replace(query, shown_query or HIDDEN, 1)
