"""The effective config."""

from __future__ import annotations

import json

import pytest

from tests.config.reading import load
from trio_gateway.config.load import Loaded, parse_config
from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.config.show import effective, effective_yaml

FILE = """
server: {bind: ["127.0.0.1:0"], trusted_proxies: [10.0.0.0/8]}
timeouts: {connect: 250ms}
headers: {request: {set: {X-Price: 5$$, X-Env: "${PLAIN}"}}}
tls: {verify: no}
endpoints:
  - url: http://${HOST}:8080/v1
    name: a
    timeout: ${T}
    circuit_breaker: {fallback_response: {day: 2020-01-31, octal: 017, "yes": "017", env: "${PLAIN}"}}
  - {url: https://b, name: b, pool: null, max_body_bytes: 1MiB}
"""
ENVIRON = {"HOST": "backend", "PLAIN": "hunter2", "T": "7", "TOKEN": "hunter2"}


def shown(loaded: Loaded) -> str:
    return json.dumps(effective(loaded.config, loaded.positions)) + effective_yaml(
        loaded.config, loaded.positions
    )


def test_the_yaml_loads_as_the_same_config() -> None:
    """What `check` prints is a config file that means the same."""
    loaded = load(FILE, **ENVIRON)
    again = parse_config(effective_yaml(loaded.require(), loaded.positions), "again", ENVIRON)
    assert again.require() == loaded.config.__class__(
        **{**_fields(loaded.config), "endpoints": again.config.endpoints}
    )
    for one, two in zip(loaded.config.endpoints, again.config.endpoints, strict=True):
        assert two == (one if one.url.startswith("https") else _without_tls(one))


def _fields(config: GatewayConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__ if name != "__weakref__"}


def _without_tls(endpoint: EndpointConfig) -> EndpointConfig:
    values = {name: getattr(endpoint, name) for name in endpoint.__slots__ if name != "__weakref__"}
    return EndpointConfig(**{key: value for key, value in values.items() if key != "tls"})


def test_it_is_data_that_json_can_carry() -> None:
    """Durations and sizes are numbers, networks are texts, defaults are spelled out."""
    loaded = load(FILE, **ENVIRON)
    data = json.loads(json.dumps(effective(loaded.config, loaded.positions)))
    assert data["server"]["trusted_proxies"] == ["10.0.0.0/8"]
    assert data["endpoints"][0]["timeouts"] == {"connect": 0.25, "idle": 300.0, "total": None}
    assert data["endpoints"][0]["timeout"] == 7.0
    assert data["endpoints"][0]["headers"]["request"]["set"]["X-Price"] == "5$"
    assert data["endpoints"][1]["max_body_bytes"] == 1024 * 1024
    assert "tls" not in data["endpoints"][0]
    assert data["endpoints"][1]["tls"]["verify"] is False


def test_what_came_from_the_environment_is_shown_as_written() -> None:
    """A value from outside may be a secret, whatever field it stands in."""
    loaded = load(FILE, **ENVIRON)
    data = effective(loaded.config, loaded.positions)
    assert data["endpoints"][0]["url"] == "http://${HOST}:8080/v1"
    assert data["endpoints"][0]["circuit_breaker"]["fallback_response"]["env"] == "${PLAIN}"
    assert "hunter2" not in shown(loaded)


@pytest.mark.parametrize(
    "extra",
    [
        "headers: {request: {set: {Authorization: 'Bearer hunter2'}}}",
        "headers: {request: {add: {X-API-Key: hunter2}}}",
        "headers: {response: {set: {Set-Cookie: a=hunter2}}}",
        "match: {prefix: /, headers: {X-Token: hunter2}}",
        "circuit_breaker: {redirect_url: 'https://o/?a=1&api_key=hunter2&b=2'}",
        "headers: {request: {set: {X-Any: 'Bearer ${TOKEN}'}}}",
    ],
)
def test_no_secret_is_shown(extra: str) -> None:
    """Credentials in headers and urls are hidden, in both forms."""
    loaded = load(f"endpoints:\n  - url: https://h\n    name: n\n    {extra}\n", **ENVIRON)
    loaded.require()
    assert "hunter2" not in shown(loaded)


def test_a_password_in_a_url_is_hidden() -> None:
    """Even a config that no file could have says no password."""
    config = GatewayConfig(endpoints=(EndpointConfig(url="http://user:hunter2@h/v1", name="n"),))
    assert effective(config)["endpoints"][0]["url"] == "http://***@h/v1"
    assert "hunter2" not in effective_yaml(config)


def test_the_signing_secret_is_hidden() -> None:
    """Who reads `check`'s output, or a traceback, can't sign tokens; the path of a file is no secret."""
    secret = "hunter2" * 5
    loaded = load(f"admin: {{auth: {{jwt: {{secret: {secret}}}}}}}")
    assert loaded.require().admin.auth.jwt.secret == secret  # type: ignore[union-attr]
    assert secret not in shown(loaded) + repr(loaded.config)
    by_file = load("admin: {auth: {jwt: {secret_file: /run/secret}}}")
    assert effective(by_file.config)["admin"]["auth"]["jwt"]["secret_file"] == "/run/secret"
