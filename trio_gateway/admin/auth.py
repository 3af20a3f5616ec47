"""Who may do what: bearer tokens for the management API (RFC 6750, RFC 7519, RFC 8725).

A token is a JWT that the config's key verifies, with an expiry, and with the audience and issuer that
the config asks for. Its `scope` claim names what it may do; each scope includes the ones before it. Why
a token is refused stands in the reply in one word and in the log, never what stands in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
from attrs import define, field, frozen

from trio_gateway.admin.keys import Keys, open_keys
from trio_gateway.admin.tokens import SCOPES, Scope
from trio_gateway.config.model import AdminAuth, JwtConfig
from trio_gateway.errors import ClientError

REALM = "trio-gateway"
_LEEWAY = 5  # seconds that clocks may differ
_NONSENSE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class Unauthorized(ClientError):
    """No token, or one that proves nothing."""

    status = 401
    code = "unauthorized"
    default_detail = "A bearer token is required"

    def __init__(self, detail: str | None = None, *, cause: str | None = None) -> None:
        challenge = f'Bearer realm="{REALM}"'
        if detail is not None:
            challenge += f', error="invalid_token", error_description="{detail}"'
        super().__init__(detail, cause=cause, headers=((b"WWW-Authenticate", challenge.encode()),))


class ScopeTooSmall(ClientError):
    """The token is good, but not for this."""

    status = 403
    code = "insufficient_scope"
    default_detail = "The token's scope does not include this operation"

    def __init__(self, needed: Scope, subject: str) -> None:
        self.subject = subject
        challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{needed}"'
        super().__init__(
            f"This operation needs the scope `{needed}`",
            headers=((b"WWW-Authenticate", challenge.encode()),),
        )


@frozen
class Principal:
    """Who calls. `scope` is the largest that the token names."""

    subject: str
    scope: Scope


ANYBODY = Principal("anonymous", "write")
"""The caller where `admin.auth` is `none`."""
_NOBODY = Principal("anonymous", "open")


@define(eq=False)
class Authenticator:
    """Verifies tokens by the rules of one `admin.auth` block."""

    config: JwtConfig
    _keys: Keys = field(repr=False)

    @classmethod
    def of(cls, auth: AdminAuth, own_secret: Callable[[], str]) -> Authenticator:
        """Raises ConfigError for keys that can't be used."""
        return cls(auth.jwt, open_keys(auth.jwt, own_secret))

    async def authorize(self, authorization: str | None, needed: Scope) -> Principal:
        """The caller. Raises Unauthorized, or ScopeTooSmall."""
        if needed == "open":
            return _NOBODY
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized
        principal = await self.verify(token.strip())
        if SCOPES.index(principal.scope) < SCOPES.index(needed):
            raise ScopeTooSmall(needed, principal.subject)
        return principal

    async def verify(self, token: str) -> Principal:
        """Who a token was issued to. Raises Unauthorized."""
        try:
            claims = await self._claims(token)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired") from None
        except _NONSENSE as error:
            raise Unauthorized("the token is not valid", cause=str(error)) from None
        return Principal(str(claims.get("sub", "")), _largest(claims.get("scope")))

    async def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.config.algorithms or "crit" in header:
            raise jwt.InvalidAlgorithmError("algorithm not allowed, or a critical extension")
        key = await self._keys.find(algorithm, kid)
        if key is None:
            raise jwt.InvalidKeyError("no such key")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self.config.audience,
            issuer=self.config.issuer,
            leeway=_LEEWAY,
            options={"require": ["exp"], "verify_aud": self.config.audience is not None},
        )
        return claims


def _largest(claim: object) -> Scope:
    """The largest scope that a `scope` claim names, as RFC 8693 4.2 spells it; words of others are theirs."""
    words = claim.split() if isinstance(claim, str) else []
    return max((scope for scope in SCOPES if scope in words), key=SCOPES.index, default="open")
