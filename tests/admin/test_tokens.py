"""Tokens of our own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from tests.admin.control import SECRET
from trio_gateway.admin.tokens import SCOPES, issue, signing_secret
from trio_gateway.config.model import JwtConfig
from trio_gateway.errors import ConfigError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def no_secret() -> str:
    raise AssertionError("the state directory was asked")


def test_a_token_is_a_jwt_as_others_read_it() -> None:
    """PyJWT verifies it, and finds subject, scope, expiry, audience and issuer."""
    now = datetime.now(UTC).replace(microsecond=0)
    config = JwtConfig(audience="gateway", issuer="us")
    token = issue(SECRET.encode(), config, subject="ü", scope="operate", ttl=90.0, now=now)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="gateway", issuer="us")
    assert (claims["sub"], claims["scope"]) == ("ü", "operate")
    assert claims["exp"] == (now + timedelta(seconds=90)).timestamp()
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}


def test_without_audience_and_issuer_there_is_none() -> None:
    """A claim that nobody asked for would be refused where it is not known."""
    token = issue(SECRET.encode(), JwtConfig(), subject="a", scope="read", ttl=1.0, now=NOW)
    claims = jwt.decode(
        token, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert set(claims) == {"sub", "scope", "iat", "exp"}


def test_the_config_s_secret_comes_first(tmp_path: Path) -> None:
    """The value, then the file without its line end; the gateway's own only where neither is named."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    assert signing_secret(JwtConfig(secret=SECRET), no_secret) == SECRET.encode()
    assert signing_secret(JwtConfig(secret_file=str(path)), no_secret) == SECRET.encode()
    assert signing_secret(JwtConfig(), lambda: "own") == b"own"


@pytest.mark.parametrize("content", [None, "", "x" * 31, "x" * 31 + "\n"])
def test_a_secret_that_is_no_secret_is_refused(tmp_path: Path, content: str | None) -> None:
    """A missing or short file names its key, and never what stands in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"^admin\.auth\.jwt\.secret_file: ") as caught:
        signing_secret(JwtConfig(secret_file=str(path)), no_secret)
    assert "xxx" not in str(caught.value)


def test_scopes_are_in_order() -> None:
    """Each includes the ones before it, so their order is their meaning."""
    assert SCOPES == ("open", "read", "operate", "write")
