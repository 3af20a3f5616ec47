"""Rules between fields."""

from __future__ import annotations

import pytest

from tests.config.reading import good, problems, warnings
from trio_gateway.config.check import check
from trio_gateway.config.model import CorsConfig, EndpointConfig, GatewayConfig

ENDPOINT = "endpoints:\n  - url: https://h\n    name: n\n    "

WRONG = [
    ("server: {bind: []}", "1:16: server.bind: must name at least one address"),
    ("server: {bind: ['a:1', 'A:1']}", "1:24: server.bind[1]: is listed twice"),
    (
        "server: {prefix: /health/x}",
        "1:18: server.prefix: would hide paths of the management API; it needs admin.bind",
    ),
    ("server: {bind: ['a:1', {address: 'A:1'}]}", "1:24: server.bind[1]: is listed twice"),
    (
        "server: {bind: [{address: 'a:1', proxy_protocol: yes}]}",
        "1:50: server.bind[0].proxy_protocol: needs server.trusted_proxies: who is believed",
    ),
    ("server: {tls: {cert: a}}", "1:22: server.tls.cert: needs server.tls.key"),
    ("server: {tls: {key: a}}", "1:21: server.tls.key: needs server.tls.cert"),
    (
        "server: {tls: {client_ca: a}}",
        "1:27: server.tls.client_ca: needs a certificate of our own: server.tls.cert and key",
    ),
    (
        "server: {bind: [{address: 'a:1', tls: true}]}",
        "1:39: server.bind[0].tls: needs a certificate: server.tls.cert and key",
    ),
    ("server: {prefix: /}", "1:18: server.prefix: `/` needs admin.bind: it would hide the management API"),
    ("server: {bind: ['a:1']}\nadmin: {bind: 'A:1'}", "2:15: admin.bind: is an address of server.bind"),
    (
        "admin: {bind: 'a:1'}\nmetrics: {bind: 'a:1'}",
        "2:17: metrics.bind: is an address of admin.bind",
    ),
    (
        f"admin: {{auth: {{jwt: {{secret: {'x' * 32}, secret_file: /f}}}}}}",
        "1:77: admin.auth.jwt.secret_file: is a second source of keys beside secret",
    ),
    (
        "admin: {auth: {jwt: {algorithms: [RS256]}}}",
        "1:34: admin.auth.jwt.algorithms: must be HS256 with a secret",
    ),
    (
        "admin: {auth: {jwt: {algorithms: []}}}",
        "1:34: admin.auth.jwt.algorithms: must be HS256 with a secret",
    ),
    (
        "admin: {auth: {jwt: {public_key_file: /k, algorithms: [RS256, HS256]}}}",
        "1:55: admin.auth.jwt.algorithms: must be RS256 or ES256 with public_key_file",
    ),
    (
        "admin: {auth: {jwt: {jwks_url: http://keys.example/, algorithms: [ES256]}}}",
        "1:32: admin.auth.jwt.jwks_url: must be https: who can change the keys on their way can sign tokens",
    ),
    (
        'admin: {auth: none, cors: {origins: ["*"]}}',
        "1:37: admin.cors.origins: must be named: with `auth: none` any page could write",
    ),
    ("metrics: {path: /}", "1:17: metrics.path: is a path of the management API"),
    ("metrics: {path: /health}", "1:17: metrics.path: is a path of the management API"),
    ("metrics: {path: /orchestrator/m}", "1:17: metrics.path: must not lie under server.prefix"),
    (
        f'{ENDPOINT}cors: {{origins: ["*"], credentials: true}}',
        "4:41: endpoints[0].cors.credentials: must not be allowed for all origins (`*`)",
    ),
    (f"{ENDPOINT}tls: {{cert: a.pem}}", "4:17: endpoints[0].tls.cert: needs tls.key"),
    (f"{ENDPOINT}tls: {{key: a.pem}}", "4:16: endpoints[0].tls.key: needs tls.cert"),
    (
        "endpoints:\n  - {url: http://h, name: n, tls: {verify: off}}",
        "2:35: endpoints[0].tls: applies to https urls only",
    ),
    (
        f"{ENDPOINT}circuit_breaker: {{failure_rate_threshold: 50, sliding_window: {{size: 10}}}}",
        "4:22: endpoints[0].circuit_breaker.minimum_number_of_calls: is more than the sliding window"
        " holds (10): the rate would never be judged",
    ),
    (
        f"{ENDPOINT}headers: {{response: {{add: {{X-A: a, x-a: b}}}}}}",
        "4:45: endpoints[0].headers.response.add.x-a: is the same header as `X-A`",
    ),
]

RIGHT = [
    "server: {bind: ['a:0', 'a:0', 'a:1', 'b:1']}",
    "server: {prefix: /healthy}",
    "server: {tls: {cert: a, key: b, client_ca: c}, bind: [{address: 'a:1', tls: yes}]}",
    "server: {tls: {certificates: [{cert: a, key: b}]}, bind: [{address: 'a:1', tls: yes}]}",
    "server: {bind: [{address: 'a:1', proxy_protocol: yes}], trusted_proxies: [10.0.0.1]}",
    "server: {prefix: /}\nadmin: {bind: 'a:1'}",
    "server: {prefix: /health}\nadmin: {bind: 'a:1'}\nmetrics: {path: /health2/m, bind: 'a:2'}",
    "server: {bind: ['a:0']}\nadmin: {bind: 'a:0'}\nmetrics: {bind: 'a:0'}",
    "admin: {auth: {jwt: {jwks_url: 'http://[::1]:81/', algorithms: [RS256, ES256]}}}",
    "admin: {auth: {jwt: {jwks_url: https://keys.example/, algorithms: [RS256]}}}",
    "admin: {auth: none, cors: {origins: [https://a.example]}}",
    f'{ENDPOINT}cors: {{origins: ["https://a"], credentials: true}}',
    f"{ENDPOINT}tls: {{cert: a.pem, key: b.pem}}",
    "tls: {ca: ca.pem}\nendpoints: [{url: http://h, name: n}]",
    f"{ENDPOINT}circuit_breaker: {{fallback_strategy: redirect, redirect_url: https://other/}}",
    f"{ENDPOINT}circuit_breaker: {{fallback_strategy: default_response}}",
    f"{ENDPOINT}circuit_breaker: {{failure_rate_threshold: 50, sliding_window: {{type: time, size: 10}}}}",
    f"{ENDPOINT}circuit_breaker: {{sliding_window: {{size: 10}}}}",
    f"{ENDPOINT}headers: {{request: {{set: {{X-A: a}}, add: {{x-a: b}}}}}}",
]


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_a_contradiction_is_told(text: str, problem: str) -> None:
    """Two fields that cannot both hold are one problem, at the one that is to be changed."""
    assert problems(text) == [problem]


@pytest.mark.parametrize("text", RIGHT)
def test_what_only_resembles_a_contradiction_is_fine(text: str) -> None:
    """A rule refuses no more than it must."""
    assert problems(text) == []


SAME = "{prefix: /a, hosts: [x.example, y.example], headers: {X-T: t}, methods: [GET]}"


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        (SAME, True),
        (
            "{prefix: /a/, hosts: [Y.example, x.example], headers: {x-t: t}, methods: [GET], priority: 0}",
            True,
        ),
        (SAME.replace("/a", "/b"), False),
        (SAME.replace("GET", "POST"), False),
        (SAME.replace("methods", "priority: 1, methods"), False),
        (SAME.replace("headers", "query"), False),
    ],
)
def test_identical_matches_are_refused(other: str, refused: bool) -> None:
    """Two endpoints that nothing tells apart are an error, however they spell it."""
    told = problems(
        f"endpoints:\n  - {{url: http://a, match: {SAME}}}\n  - {{url: http://b, name: b, match: {other}}}"
    )
    expected = "endpoints[1].match: is identical with that of `endpoint_"
    assert bool(told) == refused
    assert all(expected in line for line in told)


def test_narrowing_a_name_is_no_duplicate() -> None:
    """Without a prefix a `match` only narrows the route of its own name."""
    told = problems(
        "endpoints: [{url: http://a, name: a, match: {hosts: [h]}},"
        " {url: http://b, name: b, match: {hosts: [h]}}]"
    )
    assert told == []


def test_a_config_built_in_code_can_be_checked() -> None:
    """The rules need no file."""
    endpoint = EndpointConfig(url="http://h/", name="n", cors=CorsConfig(origins=("*",), credentials=True))
    (problem,) = check(GatewayConfig(endpoints=(endpoint,)))
    assert problem.path == "endpoints[0].cors.credentials"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "endpoints: [{url: http://a}]",
            ["1:13: endpoints[0]: has no route: give it a name or a match.prefix"],
        ),
        ("endpoints: [{url: http://a, match: {prefix: /}}]", []),
        ("server: {tls: {cert: a, key: b}, bind: ['a:1', {address: 'a:2', tls: no}]}", []),
        (
            "server: {tls: {cert: a, key: b}, bind: [{address: 'a:1', tls: no}]}",
            ["1:15: server.tls: is for nobody: every listener says `tls: false`"],
        ),
        (f"{ENDPOINT}methods: []", ["4:14: endpoints[0].methods: is empty: every request gets 405"]),
        (
            f"{ENDPOINT}circuit_breaker: {{fallback_strategy: redirect}}",
            [
                "4:42: endpoints[0].circuit_breaker.fallback_strategy: `redirect` without redirect_url"
                " answers as `error_response`"
            ],
        ),
    ],
)
def test_what_does_nothing_is_told(text: str, told: list[str]) -> None:
    """Keys that wait and endpoints that nobody reaches load, each with one warning."""
    good(text)
    assert warnings(text) == told
