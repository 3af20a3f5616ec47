"""Whole files: old ones, broken ones, large ones, and any bytes at all."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.reading import good, load, problems, warnings
from trio_gateway.config import model
from trio_gateway.config.load import load_config, parse_config
from trio_gateway.config.model import GatewayConfig, HealthCheckConfig
from trio_gateway.errors import ConfigError

OLD_FILE = """
endpoints:
  - url: "http://127.0.0.1:9001/"
    name: "users"
    version: "v1"
    methods: ["GET", "POST"]
    auth_type: "bearer"
    disabled: false
    health_check_path: "/health"
    timeout: 30
    description: "Users of the shop"
  - url: "http://127.0.0.1:9002/base"
    name: "orders"
    methods: ["GET"]
  - url: "http://127.0.0.1:9003/"
    name: "legacy"
    disabled: true
circuit_breaker:
  failure_threshold: 4
  reset_timeout: 30
  half_open_max_calls: 2
  fallback_strategy: "default_response"
  fallback_response: {message: "later", retry: true, since: 1.5, items: [1, null]}
health_check:
  enabled: true
  interval: 5
  timeout: 1
  unhealthy_threshold: 4
  healthy_threshold: 1
log_level: "WARNING"
"""


def test_a_file_of_the_old_gateway_loads_unchanged() -> None:
    """Every key that it documented means what it meant, and there is nothing to say about them."""
    config = good(OLD_FILE)
    users, orders, legacy = config.endpoints
    assert (users.id, users.version, users.methods, users.auth_type) == (
        "users",
        "v1",
        ("GET", "POST"),
        "bearer",
    )
    assert (users.health_check_path, users.timeout) == ("/health", 30.0)
    assert (orders.url, legacy.disabled) == ("http://127.0.0.1:9002/base", True)
    assert users.description == "Users of the shop"
    breaker = config.circuit_breaker
    assert (breaker.failure_threshold, breaker.reset_timeout, breaker.half_open_max_calls) == (4, 30.0, 2)
    assert breaker.fallback_strategy == "default_response"
    assert breaker.fallback_response == {"message": "later", "retry": True, "since": 1.5, "items": [1, None]}
    assert config.health_check == HealthCheckConfig(
        interval=5.0, timeout=1.0, unhealthy_threshold=4, healthy_threshold=1
    )
    assert users.health_check is config.health_check
    assert config.log_level == "WARNING"
    assert warnings(OLD_FILE) == []


def test_old_limits_do_not_bind() -> None:
    """Values above the documented limits, and numbers in quotes, were accepted and are."""
    config = good(
        """
        circuit_breaker: {failure_threshold: 1000, reset_timeout: "86400", half_open_max_calls: 100}
        health_check: {interval: 0.5, timeout: "600", unhealthy_threshold: 50}
        endpoints: [{url: http://h, name: n, timeout: "4500"}]
        """
    )
    assert config.circuit_breaker.failure_threshold == 1000
    assert config.circuit_breaker.reset_timeout == 86400.0
    assert config.endpoints[0].timeout == 4500.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("endpoints: null", "1:12: endpoints: must be a list (`[]` for none)"),
        ("endpoints:", "1:11: endpoints: must be a list (`[]` for none)"),
        ("endpoints: {}", "1:12: endpoints: must be a list"),
        ("endpoints: ${LIST}", "1:12: endpoints: the environment variable LIST is not set"),
    ],
)
def test_endpoints_must_be_a_list(text: str, problem: str) -> None:
    """A file whose list of endpoints got lost does not start an empty gateway."""
    assert problems(text) == [problem]


def test_a_second_endpoint_of_a_name_is_skipped() -> None:
    """The first one wins, as in the old gateway, and the second is named; strictly it is an error."""
    text = """
    endpoints:
      - {url: http://a, name: n}
      - {url: http://b, name: n}
      - {url: http://c, match: {prefix: /c}}
      - {url: "HTTP://C:80", match: {prefix: /d}}
      - {url: http://e, name: e}
    """
    assert [endpoint.url for endpoint in good(text).endpoints] == ["http://a/", "http://c/", "http://e/"]
    told = warnings(text)
    assert told == [
        "3:5: endpoints[1]: skipped: endpoints[0] in line 2 has the same name `n`",
        "5:5: endpoints[3]: skipped: endpoints[2] in line 4 has the same url without a name",
    ]


def test_strict_makes_warnings_errors() -> None:
    """A file that only warned is refused, with the same words."""
    loaded = load("sever: {}")
    assert loaded.require() == GatewayConfig()
    with pytest.raises(ConfigError) as refused:
        loaded.strict().require()
    assert refused.value.problems == ["gateway.yaml:1:1: sever: unknown key, ignored; did you mean `server`?"]
    assert loaded.strict().warnings == []


def test_require_tells_every_problem() -> None:
    """The exception has one line a mistake, in the order of the file."""
    with pytest.raises(ConfigError) as refused:
        load("server: {h2c: x}\nlog_level: y\nserver: 5").require()
    assert [line.split(":")[1] for line in refused.value.problems] == ["1", "2", "3"]
    assert str(refused.value) == "\n".join(refused.value.problems)


def test_old_environment_names_are_accepted() -> None:
    """WORKERS, MAX_REQUESTS and TIMEOUT do nothing, and say so."""
    assert warnings("", WORKERS="4", TIMEOUT="30", OTHER="x") == [
        "environment: WORKERS: this variable is not used in this version",
        "environment: TIMEOUT: this variable is not used in this version",
    ]


def test_a_file_is_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables come from the process, a byte order mark does not matter."""
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbflog_level: ${LEVEL_OF_TEST}\n")
    monkeypatch.setenv("LEVEL_OF_TEST", "debug")
    assert load_config(path).require().log_level == "DEBUG"
    assert load_config(str(path), {"LEVEL_OF_TEST": "error"}).require().log_level == "ERROR"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"a: 1\nb: \xff", "gateway.yaml:2:4: is not UTF-8"),
        (None, "gateway.yaml: cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, content: bytes | None, place: str) -> None:
    """Neither a missing file nor a binary one is a traceback."""
    path = tmp_path / "gateway.yaml"
    if content is not None:
        path.write_bytes(content)
    (problem,) = load_config(path, {}).problems
    assert place in str(problem)


def test_a_folder_is_a_problem(tmp_path: Path) -> None:
    """So is a path that is no file."""
    (problem,) = load_config(tmp_path, {}).problems
    assert "cannot be read" in problem.message


def test_a_thousand_endpoints_load_quickly() -> None:
    """A large file costs less than a second of CPU, with defaults merged into each endpoint."""
    text = "timeouts: {connect: 3s}\nheaders: {request: {set: {X-A: a}}}\nendpoints:\n" + "".join(
        f"  - {{url: 'https://api{n}.example.com/v1', name: n{n}, version: v1, methods: [GET, POST],"
        f" timeout: 30, headers: {{request: {{set: {{X-B: b}}}}}},"
        " circuit_breaker: {failure_threshold: 3}}\n"
        for n in range(1000)
    )
    started = time.process_time()
    loaded = parse_config(text, "large.yaml", {})
    spent = time.process_time() - started
    assert len(loaded.require().endpoints) == 1000
    assert loaded.config.endpoints[999].headers.request.set == {"X-A": "a", "X-B": "b"}
    assert spent < 1.0


# ---- anything at all ------------------------------------------------------------------------------

BLOCKS = [getattr(model, name) for name in model.__all__]
KEYS = st.sampled_from(
    sorted({field.name for block in BLOCKS for field in attrs.fields(block)} | {"retry", "<<"})
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 99999)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["http://h", "GET", "5s", "64KiB", "10.0.0.0/8", "/a", "${A}", "${B:-c}", "*", "$"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(st.dictionaries(KEYS, TREES, max_size=5))
@settings(deadline=None)
def test_any_tree_is_judged(tree: dict[str, object]) -> None:
    """Whatever stands under known keys, the answer is a config or problems, never an exception."""
    assert_judged(yaml.safe_dump(tree))


@given(
    st.text(alphabet=st.sampled_from("endpoints:-[]{}&*a<>|#!%@\"'\n\t ?,~$\x00é\ud800\u2028"), max_size=60)
)
@settings(deadline=None)
def test_any_text_is_judged(text: str) -> None:
    """Broken YAML of every kind is a problem with a place."""
    assert_judged(text)


@given(content=st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_judged(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No file content is a traceback."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    for problem in load_config(path, {}).problems:
        assert problem.line >= 1


def assert_judged(text: str) -> None:
    lines = len(text.splitlines()) + 1  # as YAML does, which breaks lines at more than line feeds
    loaded = parse_config(text, "any.yaml", {"A": "a"})
    for problem in (*loaded.problems, *loaded.warnings):
        assert 1 <= problem.line <= lines, problem
        assert problem.col >= 1
        assert "\n" not in str(problem)
