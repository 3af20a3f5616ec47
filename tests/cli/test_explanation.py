"""What would become of a request, and that it is what becomes of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.client import request
from tests.support.gateway import world
from tests.support.upstream import Wire
from trio_gateway.cli.explanation import Explanation, Question, explain, unwrapped
from trio_gateway.config.load import Loaded, parse_config
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime

CONFIG = """
server: {bind: ["127.0.0.1:8000"], trusted_proxies: [10.0.0.0/8]}
endpoints:
  - {url: "http://backend.example/api?a=1", name: users, version: v1, methods: [GET, POST], max_body_bytes: 9,
     headers: {request: {set: {X-Tenant: acme}, remove: [X-Debug]}}}
  - {url: "http://backend.example/old/x", name: old, path: {mode: replace_last}, headers: {host: preserve}}
  - {url: "http://backend.example/", name: shop, disabled: true, deny: [10.1.0.0/16],
     circuit_breaker: {fallback_strategy: cached_response}, cors: {origins: ["https://app.example"]}}
  - {url: "http://backend.example/m", match: {prefix: /users/admin, priority: 1}}
  - {url: "http://backend.example/n", match: {prefix: /users/admin, headers: {X-Beta: "*"}}}
  - {url: "http://backend.example/p", match: {prefix: /only, hosts: [one.example], methods: [GET]}}
  - {url: "http://backend.example/q", match: {prefix: /m/n}}
  - {url: "http://backend.example/r", match: {prefix: /m}, path: {strip_prefix: false}}
"""


def loaded(text: str = CONFIG, **environ: str) -> Loaded:
    found = parse_config(text, "test.yaml", environ)
    found.require()
    return found


def asked(target: str, *headers: str, method: str = "GET", peer: str = "127.0.0.1") -> Explanation:
    return explain(loaded(), Question(request(target, *headers, method=method), peer))


async def backend_s_view(method: str, target: str, headers: tuple[str, ...]) -> bytes:
    """The bytes that a backend gets when the gateway serves the request."""
    received = b""

    async def script(wire: Wire) -> None:
        nonlocal received
        await wire.request()
        received = wire.raw
        await wire.reply()

    async with world(CONFIG, script) as gateway:
        await gateway.get(target, *headers, method=method)
    return received


# ---- the same as what is done ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/orchestrator/users", ()),
        (
            "GET",
            "/orchestrator/v1/users/a%20b//c?x=%2F&x",
            ("X-Debug: 1", "accept: */*", "Accept: text/html"),
        ),
        ("HEAD", "/orchestrator/users/", ("Connection: close, X-Drop", "X-Drop: 1", "Keep-Alive: 3")),
        ("GET", "/orchestrator/old/y/z?q", ("Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4")),
        ("GET", "http://other.example/orchestrator/m/n/o", ()),
        ("GET", "/orchestrator/m/x", ("Cookie: a=1; b=2", "Authorization: Bearer t")),
    ],
)
def test_what_is_explained_is_what_is_sent(method: str, target: str, headers: tuple[str, ...]) -> None:
    """The backend receives the very target and fields that were foretold."""
    headers = (*headers, "X-Request-ID: fixed", f"traceparent: 00-{'a' * 32}-{'b' * 16}-01")
    found = asked(target, *headers, method=method)
    assert found.sent is not None

    clock = trio.testing.MockClock(autojump_threshold=0)
    received = trio.run(backend_s_view, method, target, headers, clock=clock)
    line, *fields = received.decode().removesuffix("\r\n\r\n").split("\r\n")
    path = found.sent.url.removeprefix("http://backend.example")
    assert line == f"{method} {path} HTTP/1.1"
    assert [tuple(field.split(": ", 1)) for field in fields] == list(found.sent.headers)
    assert found.sent.connect_to == "backend.example:80"


# ---- gates, layers, answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "headers", "method", "peer", "gates", "status"),
    [
        ("/orchestrator/users", (), "GET", "::1", ["service passes", "method passes", "body passes"], None),
        ("/orchestrator/users", (), "PUT", "::1", ["service passes", "method refuses with 405"], 405),
        (
            "/orchestrator/users",
            ("Content-Length: 10",),
            "POST",
            "::1",
            ["service passes", "method passes", "body refuses with 413"],
            413,
        ),
        ("/orchestrator/shop", (), "GET", "10.1.2.3", ["address refuses with 403"], 403),
        (
            "/orchestrator/shop",
            ("X-Forwarded-For: 10.1.2.3",),
            "GET",
            "10.2.0.1",
            ["address refuses with 403"],
            403,
        ),
        ("/orchestrator/shop", (), "GET", "::1", ["address passes", "service refuses with 503"], 503),
        ("/orchestrator/..%2fhealth", (), "GET", "::1", [], 400),
        ("/orchestrator/users", ("Transfer-Encoding: gzip",), "POST", "::1", [], 501),
        ("/orchestrator/users", ("Via: 1.1 trio-gateway",) * 3, "GET", "::1", None, 508),
    ],
)
def test_gates_in_order(
    target: str,
    headers: tuple[str, ...],
    method: str,
    peer: str,
    gates: list[str] | None,
    status: int | None,
) -> None:
    """Every gate that is asked says its word, and the first refusal is the answer."""
    found = asked(target, *headers, method=method, peer=peer)
    if gates is not None:
        assert [f"{verdict.gate} {verdict.says}" for verdict in found.gates] == gates
    assert (found.answered and found.answered.status) == status
    assert (found.sent is None) == (status is not None)


def test_a_preflight_is_answered_by_its_gate() -> None:
    """Where CORS is configured the gateway itself answers the browser's question."""
    text = 'endpoints: [{url: "http://a/", name: a, cors: {origins: ["https://app.example"]}}]'
    head = request(
        "/orchestrator/a",
        "Origin: https://app.example",
        "Access-Control-Request-Method: GET",
        method="OPTIONS",
    )
    found = explain(loaded(text), Question(head, "127.0.0.1"))
    assert found.answered is not None
    assert found.answered.status == 204
    assert found.gates[-1].gate == "preflight"


def test_what_is_not_proxied_leaves_by_the_other_door() -> None:
    """Paths beside the prefix have no answer here, and no route."""
    for target in ("/health", "/orchestratorx/users", "/"):
        found = asked(target)
        assert found.route is None
        assert found.answered is not None
        assert (found.answered.status, found.answered.code) == (None, "not_proxied")


async def test_layers_are_named_from_the_outside_in() -> None:
    """The walk ends at the attempt, whatever layers stand around it."""
    runtime = Runtime(MemoryNetwork())
    runtime.apply(loaded().config)
    names = {id_: unwrapped(endpoint.handler)[0] for id_, endpoint in runtime.plan.endpoints.items()}
    assert names["users"] == ("guarded",)
    assert names["shop"] == ("guarded", "recorded")
    assert unwrapped(runtime.plan.endpoints["users"].handler)[1].name == "backend.example:80"


# ---- secrets --------------------------------------------------------------------------------------

SECRETS = """
endpoints:
  - {url: "${URL}", name: env, headers: {request: {set: {X-Own: "${TOKEN}", Cookie: a=b}, add: {X-Plain: p}}}}
  - {url: "http://a/x?api_key=t0p&page=1", name: plain}
"""


def test_secrets_of_the_config_are_not_shown() -> None:
    """What `check` hides stays hidden; what the asker typed is shown as typed."""
    config = loaded(SECRETS, URL="http://a/x?k=t0p", TOKEN="t0p")
    head = request("/orchestrator/env?b=1", "Authorization: mine")
    sent = explain(config, Question(head, "127.0.0.1")).sent
    assert sent is not None
    assert sent.url == "http://a/x?***&b=1"
    fields = dict(sent.headers)
    assert (fields["X-Own"], fields["Cookie"], fields["X-Plain"]) == ("${TOKEN}", "***", "p")
    assert fields["Authorization"] == "mine"

    plain = explain(config, Question(request("/orchestrator/plain"), "127.0.0.1")).sent
    assert plain is not None
    assert plain.url == "http://a/x?api_key=***&page=1"


def test_ids_and_schemes_are_those_of_the_asker() -> None:
    """An inbound id is kept, a new one is not made up, and TLS shows in what is forwarded."""
    kept = asked("/orchestrator/users", "X-Request-ID: mine").sent
    assert kept is not None
    assert dict(kept.headers)["X-Request-ID"] == "mine"
    made = explain(loaded(), Question(request("/orchestrator/users"), "127.0.0.1", tls=True)).sent
    assert made is not None
    assert dict(made.headers)["X-Request-ID"] == "<a new id>"
    assert dict(made.headers)["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize(("first", "scheme"), [("'h:1'", "https"), ("{address: 'h:1', tls: no}", "http")])
def test_a_path_alone_comes_as_the_first_listener_wants_it(first: str, scheme: str) -> None:
    """Over TLS where that speaks it; a url says what it says."""
    server = f"server: {{bind: [{first}, 'h:2'], tls: {{cert: a.pem, key: a.key}}}}"
    config = loaded(server + CONFIG[CONFIG.index("\nendpoints") :])
    told = [
        explain(config, question).sent
        for question in (
            Question(request("/orchestrator/users"), "127.0.0.1"),
            Question(request("/orchestrator/users"), "127.0.0.1", tls=False),
        )
    ]
    schemes = [dict(sent.headers)["X-Forwarded-Proto"] for sent in told if sent is not None]
    assert schemes == [scheme, "http"]
