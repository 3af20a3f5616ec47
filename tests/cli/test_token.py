"""`trio-gateway token`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.cli.conftest import Call
from trio_gateway.cli.token import user_name

SECRET = "0123456789abcdef" * 4


def claims_of(token: str, secret: str = SECRET, **options: Any) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token.strip(), secret, algorithms=["HS256"], **options)
    return claims


@pytest.fixture
def config() -> str:
    """A config file whose secret is in a file of its own."""
    Path("secret").write_text(SECRET)
    Path("gateway.yaml").write_text("admin: {auth: {jwt: {secret_file: secret, audience: a, issuer: i}}}\n")
    return "gateway.yaml"


def test_it_reads_for_eight_hours(call: Call, config: str) -> None:
    """What is not asked for is not given: the smallest scope, one working day."""
    result = call("token", "-c", config)
    assert result.exit_code == 0
    claims = claims_of(result.output, audience="a", issuer="i")
    assert claims["scope"] == "read"
    assert claims["exp"] - claims["iat"] == 8 * 3600


def test_scope_time_and_subject_can_be_named(call: Call, config: str) -> None:
    """And come out in JSON for programs."""
    result = call("token", "-c", config, "--scope", "write", "--ttl", "90s", "--subject", "ci", "--json")
    told = json.loads(result.output)
    claims = claims_of(told["token"], audience="a", issuer="i")
    assert (claims["scope"], claims["sub"], told["scope"]) == ("write", "ci", "write")
    assert claims["exp"] - claims["iat"] == 90
    assert datetime.fromisoformat(told["expires"]) == datetime.fromtimestamp(claims["exp"], UTC)


def test_without_a_config_it_is_the_gateway_s_own_secret(call: Call) -> None:
    """It is made once, in the state directory, and signs every token from then on."""
    first = call("token", STATE_DIRECTORY="state")
    second = call("token", STATE_DIRECTORY="state")
    secret = Path("state/secret").read_text().strip()
    assert claims_of(first.output, secret)["scope"] == claims_of(second.output, secret)["scope"] == "read"


def test_the_config_names_the_state_directory(call: Call) -> None:
    """`state_dir` comes before the environment."""
    Path("gateway.yaml").write_text("state_dir: mine\n")
    result = call("token", "-c", "gateway.yaml", STATE_DIRECTORY="other")
    assert claims_of(result.output, Path("mine/secret").read_text().strip())
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("admin: {auth: none}", 1, "takes no token"),
        ("admin: {auth: {jwt: {jwks_url: https://k.example/, algorithms: [RS256]}}}", 1, "your issuer"),
        ("admin: {auth: {jwt: {public_key_file: k, algorithms: [ES256]}}}", 1, "your issuer"),
        ("admin: {auth: {jwt: {secret_file: absent}}}", 1, "secret_file: cannot be read"),
        ("admin: {auth: {jwt: {secret: short}}}", 2, "at least 32 bytes"),
        ("state_dir: gateway.yaml", 1, "can't be used"),
    ],
)
def test_where_no_token_would_do_it_says_why(call: Call, text: str, code: int, told: str) -> None:
    """No token is printed that no gateway would take."""
    Path("gateway.yaml").write_text(text)
    result = call("token", "-c", "gateway.yaml")
    assert result.exit_code == code
    assert told in result.stderr
    assert "eyJ" not in result.output


@pytest.mark.parametrize("args", [("--ttl", "soon"), ("--ttl", "0"), ("--scope", "open"), ("--scope", "all")])
def test_bad_usage_ends_with_two(call: Call, config: str, args: tuple[str, ...]) -> None:
    """Scopes and durations are those that there are."""
    assert call("token", "-c", config, *args).exit_code == 2


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run under any user id."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert re.fullmatch(r"uid \d+", user_name())
