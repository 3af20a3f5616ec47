"""One reader for the whole model."""

from __future__ import annotations

import attrs
import pytest

from tests.config.reading import endpoint, good, problems, warnings
from trio_gateway.config.model import AdminAuth, GatewayConfig, JwtConfig, SlidingWindow


def test_every_kind_of_field_is_read() -> None:
    """Scalars, choices, lists, mappings, networks and nested blocks each by the type of their field."""
    read = endpoint(
        """
        endpoints:
          - url: http://h
            name: 017
            version: 1.10
            methods: [GET, POST]
            disabled: on
            timeout: "45"
            description: yes
            allow: [10.0.0.0/8, "::1"]
            match: {prefix: /a/, hosts: [A.example], query: {v: 1.0}, headers: {X-T: yes}, priority: -3}
            path: {mode: replace_last}
            cors: {origins: ["*"], max_age: 10m}
            circuit_breaker: {sliding_window: {type: time, size: 010}, failure_on: [429, 5xx]}
        """
    )
    assert (read.name, read.version, read.methods) == ("017", "1.10", ("GET", "POST"))
    assert (read.disabled, read.timeout, read.description) == (True, 45.0, "yes")
    assert [str(network) for network in read.allow] == ["10.0.0.0/8", "::1/128"]
    assert (read.match.prefix, read.match.hosts, read.match.priority) == ("/a", ("a.example",), -3)
    assert (read.match.query, read.match.headers) == ({"v": "1.0"}, {"X-T": "yes"})
    assert (read.path.mode, read.cors.max_age) == ("replace_last", 600.0)
    assert read.circuit_breaker.sliding_window == SlidingWindow(type="time", size=10)
    assert read.circuit_breaker.failure_on == ("429", "5xx")


def test_free_data_follows_yaml_1_1() -> None:
    """A fallback body is read as the old gateway read it, but for dates, which JSON has not."""
    read = endpoint(
        """
        endpoints:
          - url: http://h
            name: n
            circuit_breaker:
              fallback_response:
                {octal: 017, base60: 1:30, yes: no, none: ~, float: 1.5, text: "017", day: 2020-01-31,
                 list: [1, {deep: true}], 5: five, env: "${N}", equals: =}
        """,
        N="17",
    )
    assert read.circuit_breaker.fallback_response == {
        "octal": 15,
        "base60": 90,
        "yes": False,
        "none": None,
        "float": 1.5,
        "text": "017",
        "day": "2020-01-31",
        "list": [1, {"deep": True}],
        "5": "five",
        "env": "17",
        "equals": "=",
    }


ENDPOINT = "endpoints:\n  - url: http://h\n    name: n\n    "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: 5", "1:9: server: must be a mapping of keys"),
        ("server: [5]", "1:9: server: must be a mapping of keys"),
        ("server: {h2c: 1}", "1:15: server.h2c: must be true or false"),
        ("server: {h2c: [true]}", "1:15: server.h2c: must be a single value"),
        ("server: {bind: 0.0.0.0:80}", "1:16: server.bind: must be a list"),
        ("server: {bind: [null]}", "1:17: server.bind[0]: must not be null"),
        ("server: {bind: [8000]}", "1:17: server.bind[0]: must be HOST:PORT"),
        ("server: {bind: [[a]]}", "1:17: server.bind[0]: must be a mapping of keys"),
        ("server: {bind: [{}]}", "1:17: server.bind[0].address: is required"),
        ("server: {bind: [{address: 8000}]}", "1:27: server.bind[0].address: must be HOST:PORT"),
        ("server: {limits: {head: big}}", "1:25: server.limits.head: must be a size: bytes, or 64KiB, 10MB"),
        ("logging: {format: xml}", "1:19: logging.format: must be one of auto, text, json"),
        (
            "logging: {format: jsn}",
            "1:19: logging.format: must be one of auto, text, json; did you mean `json`?",
        ),
        ("endpoints: [5]", "1:13: endpoints[0]: must be a mapping of keys"),
        ("endpoints: [{name: a}]", "1:13: endpoints[0].url: is required"),
        ("endpoints: [{url: null}]", "1:13: endpoints[0].url: is required"),
        (f"{ENDPOINT}timeout: 1:30", "4:14: endpoints[0].timeout: must be a duration: seconds, or 250ms, 5s"),
        (f"{ENDPOINT}methods: [get]", "4:15: endpoints[0].methods[0]: must be one of GET, POST, PUT, DELETE"),
        (
            f"{ENDPOINT}match: {{query: 5}}",
            "4:20: endpoints[0].match.query: must be a mapping of names to values",
        ),
        (
            f"{ENDPOINT}match: {{headers: {{a b: c}}}}",
            "4:23: endpoints[0].match.headers.a b: must be a token",
        ),
        (
            f"{ENDPOINT}headers: {{request: {{set: {{A: [b]}}}}}}",
            "4:34: endpoints[0].headers.request.set.A: must",
        ),
        (
            f"{ENDPOINT}circuit_breaker: {{fallback_response: 5}}",
            "4:42: endpoints[0].circuit_breaker.fallback_response: must be a mapping",
        ),
        (
            f"{ENDPOINT}circuit_breaker: {{fallback_response: {{a: [.inf]}}}}",
            "4:47: endpoints[0].circuit_breaker.fallback_response.a[0]: is no value that JSON can carry",
        ),
        (
            f"{ENDPOINT}circuit_breaker: {{fallback_response: {{a: !!int x}}}}",
            "4:46: endpoints[0].circuit_breaker.fallback_response.a: is no value that JSON can carry",
        ),
    ],
)
def test_a_mistake_is_told_at_its_value(text: str, problem: str) -> None:
    """One mistake is one problem, at the line and column of the value that is wrong."""
    (told,) = problems(text)
    assert told.startswith(problem)


def test_all_mistakes_are_told_at_once() -> None:
    """Nobody has to run the check once per mistake."""
    told = problems(
        """
        server: {h2c: perhaps, limits: {head: 0}}
        log_level: loud
        endpoints:
          - {url: ftp://x, timeout: never}
          - {name: "a b", methods: [GET, get, PUSH]}
        """
    )
    assert [line.split(": ")[1] for line in told] == [
        "server.h2c",
        "server.limits.head",
        "log_level",
        "endpoints[0].url",
        "endpoints[0].timeout",
        "endpoints[1].url",
        "endpoints[1].name",
        "endpoints[1].methods[1]",
        "endpoints[1].methods[2]",
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "server: {bind: [{address: 'a:1', adress: 'b:1'}]}",
            "1:34: server.bind[0].adress: unknown key, ignored; did you mean `address`?",
        ),
        ("sever: {}", "1:1: sever: unknown key, ignored; did you mean `server`?"),
        (
            "shutdown:\n  dray: 5",
            "2:3: shutdown.dray: unknown key, ignored; did you mean `drain`?",
        ),
        (f"{ENDPOINT}tiemout: 5", "4:5: endpoints[0].tiemout: unknown key, ignored; did you mean `timeout`?"),
        ("zebra: 5", "1:1: zebra: unknown key, ignored"),
        ("Server: {}", "1:1: Server: unknown key, ignored; did you mean `server`?"),
    ],
)
def test_an_unknown_key_is_a_warning(text: str, warning: str) -> None:
    """The old gateway ignored unknown keys, so its files still load, but their author is told."""
    good(text)
    assert warnings(text) == [warning]


@pytest.mark.parametrize("spelling", ["null", "~", ""])
def test_null_is_the_default_of_any_key(spelling: str) -> None:
    """Every top-level key but `endpoints` may be null."""
    for field in attrs.fields(GatewayConfig):
        if field.name != "endpoints":
            assert good(f"{field.name}: {spelling}") == GatewayConfig()


def test_a_word_can_stand_for_a_block() -> None:
    """`admin.auth` is the word `none` or a block, and each is told its own mistakes."""
    assert good("admin: {auth: none}").admin.auth == "none"
    assert good("admin: {auth: {jwt: {issuer: i}}}").admin.auth == AdminAuth(JwtConfig(issuer="i"))
    assert good("admin: {auth: null}").admin.auth == AdminAuth()
    assert problems("admin: {auth: off}") == ["1:15: admin.auth: must be one of none"]
    assert problems("admin: {auth: []}") == ["1:15: admin.auth: must be a mapping of keys"]
