"""One endpoint from plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.config.reading import endpoint, load
from trio_gateway.config.data import Mistake, plain_endpoint, read_endpoint
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import EndpointConfig

USERS = {"url": "http://users.example/v1", "name": "users"}


def read(**more: Any) -> EndpointConfig:
    found = read_endpoint(USERS | more)
    assert found.mistakes == ()
    assert found.config is not None
    return found.config


def mistakes(data: object) -> tuple[Mistake, ...]:
    found = read_endpoint(data)
    assert found.config is None
    return found.mistakes


WHOLE = {
    **USERS,
    "version": "v1.10",
    "methods": ["GET", "POST"],
    "disabled": True,
    "timeout": "1m",
    "allow": ["10.0.0.0/8"],
    "match": {"prefix": "/a", "hosts": ["A.example"], "headers": {"X-Tenant": "acme"}},
    "headers": {"request": {"set": {"X-A": "b $$ ${HOME}"}}},
    "timeouts": {"connect": 0.5, "total": None},
    "circuit_breaker": {
        "failure_threshold": "7",
        "fallback_strategy": "default_response",
        "fallback_response": {"a": [1, 2.5, 1e16, True, None, "yes", "${HOME}", {"b": "1"}]},
    },
}


def test_data_means_what_a_file_means() -> None:
    """JSON says as an endpoint of a file what it says as data, but that variables stay text."""
    text = json.dumps(WHOLE).replace("$", "$$").replace("1e+16", "1.0e+16")
    (from_file,) = parse_config(f'{{"endpoints": [{text}]}}', "as.json", {}).require().endpoints
    assert read(**WHOLE) == from_file


def test_no_variable_is_expanded() -> None:
    """Nobody reads the gateway's environment through its API."""
    config = read(**WHOLE)
    assert config.headers.request.set == {"X-A": "b $$ ${HOME}"}
    assert config.circuit_breaker.fallback_response == {
        "a": [1, 2.5, 1e16, True, None, "yes", "${HOME}", {"b": "1"}]
    }


def test_the_defaults_of_a_file_hold() -> None:
    """An endpoint that comes from elsewhere is laid over the file's defaults, field by field."""
    file = load("timeout: 7\ncircuit_breaker: {failure_threshold: 9, reset_timeout: 3}\nmethods: [PUT]\n")
    found = read_endpoint(USERS | {"circuit_breaker": {"failure_threshold": 2}}, file.defaults)
    assert found.config == endpoint(
        """
        endpoints:
          - {url: "http://users.example/v1", name: users, timeout: 7,
             circuit_breaker: {failure_threshold: 2, reset_timeout: 3}}
        """
    )


METHODS = "must be one of GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS; did you mean `GET`?"
MISTAKES: list[tuple[object, dict[tuple[str | int, ...], tuple[str, Any]]]] = [
    ([], {(): ("must be a mapping of keys", [])}),
    (None, {(): ("must be a mapping of keys", None)}),
    (
        USERS | {"name": "b a d", "timeout": -1},
        {
            ("name",): ("must consist of letters, digits, `_` and `-`", "b a d"),
            ("timeout",): ("must be at least 0", -1),
        },
    ),
    (USERS | {"methods": ["GET", "get"]}, {("methods", 1): (METHODS, "get")}),
    (USERS | {"pool": 5}, {("pool",): ("must be a mapping of keys", 5)}),
    (
        USERS | {"websocket": {"enabled": 1, "idle_timeout": 0, "max_message_size": "1.5"}},
        {
            ("websocket", "enabled"): ("must be true or false", 1),
            ("websocket", "idle_timeout"): ("must be longer than zero", 0),
            ("websocket", "max_message_size"): ("must be a whole number of bytes", "1.5"),
        },
    ),
    (USERS | {"retry": {"a": 1}}, {("retry",): ("not available in this version", {"a": 1})}),
    (
        USERS | {"cors": {"origins": ["*"], "credentials": True}},
        {("cors", "credentials"): ("must not be allowed for all origins (`*`)", True)},
    ),
    (USERS | {"timeout": {1, 2}}, {("timeout",): ("is no value that JSON can carry", {1, 2})}),
]


@pytest.mark.parametrize(("data", "told"), MISTAKES)
def test_every_mistake_is_told_with_its_path_and_input(
    data: object, told: dict[tuple[str | int, ...], tuple[str, Any]]
) -> None:
    """The list that the API answers 422 with: nothing stops at the first mistake."""
    assert {mistake.loc: (mistake.msg, mistake.input) for mistake in mistakes(data)} == told
    assert {mistake.type for mistake in mistakes(data)} == {"value_error"}


@pytest.mark.parametrize("data", [{}, {"url": None}, {"name": "users"}])
def test_what_is_missing_is_told_as_missing(data: dict[str, Any]) -> None:
    """A required key that is absent or null; the input is the mapping that lacks it."""
    assert mistakes(data) == (Mistake("missing", ("url",), "is required", data),)


def test_bottomless_data_is_refused() -> None:
    """Nesting ends at a depth that no honest endpoint has, long before the interpreter's stack does."""
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    (mistake,) = mistakes(USERS | {"circuit_breaker": {"fallback_response": deep}})
    assert mistake.msg == "nested deeper than 64 levels"


def test_unknown_keys_are_named_and_ignored() -> None:
    """As in a file: a warning with a guess, no mistake."""
    found = read_endpoint(USERS | {"timout": 3})
    assert found.config == read()
    assert found.warnings == (
        Mistake("value_error", ("timout",), "unknown key, ignored; did you mean `timeout`?", 3),
    )


@pytest.mark.parametrize(
    "config",
    [
        EndpointConfig("http://a/"),
        read(**WHOLE),
        read(match={"headers": {"X": "*"}, "query": {"a": "$b"}}, deny=["::/0"], health_check={"jitter": 0}),
        read(circuit_breaker={"fallback_response": {}}, tls={"verify": False}, cors={"methods": []}),
    ],
)
def test_plain_data_reads_as_the_same_endpoint(config: EndpointConfig) -> None:
    """What is kept says all that the endpoint is, through JSON, and nothing that is built in."""
    kept = json.loads(json.dumps(plain_endpoint(config)))
    assert read_endpoint(kept).config == config
    assert plain_endpoint(EndpointConfig("http://a/")) == {"url": "http://a/"}
