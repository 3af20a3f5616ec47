"""Tokens of our own: which scopes there are, which secret signs, and how a token is made.

The command line uses this without anything that serves.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from trio_gateway.config.model import JwtConfig
from trio_gateway.errors import ConfigError

Scope = Literal["open", "read", "operate", "write"]
SCOPES: tuple[Scope, ...] = ("open", "read", "operate", "write")
"""Each includes the ones before; `open` needs no token."""

SHORTEST_SECRET = 32  # bytes (RFC 7518 3.2)

_HEADER = {"alg": "HS256", "typ": "JWT"}


def signing_secret(config: JwtConfig, own_secret: Callable[[], str]) -> bytes:
    """The secret that signs and verifies; `own_secret` is asked where the config names none.

    Raises ConfigError.
    """
    if config.secret is not None:
        return config.secret.encode()
    if config.secret_file is None:
        return own_secret().encode()
    secret = read_key_file(config.secret_file, "secret_file").strip()
    if len(secret) < SHORTEST_SECRET:
        raise ConfigError([f"admin.auth.jwt.secret_file: holds less than {SHORTEST_SECRET} bytes"])
    return secret


def read_key_file(path: str, key: str) -> bytes:
    """The bytes of a file that `admin.auth.jwt` names under `key`. Raises ConfigError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f"admin.auth.jwt.{key}: cannot be read: {error.strerror or error}"]) from None


def issue(secret: bytes, config: JwtConfig, *, subject: str, scope: Scope, ttl: float, now: datetime) -> str:
    """A token for `ttl` seconds that a gateway of the same config and secret accepts.

    Written with the standard library: PyJWT takes longer to import than this command line to run.
    """
    claims: dict[str, Any] = {
        "sub": subject,
        "scope": scope,
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp() + ttl),
    }
    if config.audience is not None:
        claims["aud"] = config.audience
    if config.issuer is not None:
        claims["iss"] = config.issuer
    signed = _base64url(json.dumps(_HEADER).encode()) + b"." + _base64url(json.dumps(claims).encode())
    return (signed + b"." + _base64url(hmac.digest(secret, signed, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")  # RFC 7515 2
