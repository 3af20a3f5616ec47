"""Who may do what: every token that is not exactly right is refused, on every operation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.admin.control import SECRET, control, token
from tests.support.faults import fault, through
from trio_gateway.admin.auth import Authenticator, ScopeTooSmall, Unauthorized
from trio_gateway.admin.keys import FixedKeys
from trio_gateway.admin.operation import Operation
from trio_gateway.admin.operations import TABLE
from trio_gateway.config.model import JwtConfig

pytestmark = through("gateway")

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "a", "scope": "write", "exp": time.time() + 60, **more}


def by_hand(header: dict[str, Any], payload: bytes, secret: bytes = SECRET.encode()) -> str:
    """A token as no library would make it."""
    parts = [json.dumps(header).encode(), payload]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


HS: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}

BAD: dict[str, str] = {
    "no dots": "nonsense",
    "empty parts": "..",
    "not ascii": "ü.ü.ü",
    "expired": token(ttl=-60),
    "wrong secret": token(secret="x" * 64),
    "alg none": jwt.encode(claims(), None, algorithm="none"),
    "alg None": by_hand({"alg": "None"}, json.dumps(claims()).encode()),
    "alg missing": by_hand({"typ": "JWT"}, json.dumps(claims()).encode()),
    "alg list": by_hand({"alg": ["HS256"]}, json.dumps(claims()).encode()),
    "other hmac": jwt.encode(claims(), SECRET, algorithm="HS512"),
    "no signature": token().rpartition(".")[0] + ".",
    "no exp": by_hand(HS, b'{"scope": "write"}'),
    "exp null": by_hand(HS, b'{"scope": "write", "exp": null}'),
    "exp text": by_hand(HS, b'{"scope": "write", "exp": "never"}'),
    "exp infinite": by_hand(HS, b'{"scope": "write", "exp": Infinity}'),
    "exp huge": by_hand(HS, b'{"scope": "write", "exp": 1e999}'),
    "not yet": by_hand(HS, json.dumps(claims(nbf=time.time() + 600)).encode()),
    "from the future": by_hand(HS, json.dumps(claims(iat=time.time() + 600)).encode()),
    "claims no object": by_hand(HS, b"[]"),
    "claims deep": by_hand(HS, b"[" * 15_000),
    "critical extension": by_hand({**HS, "crit": ["b64"], "b64": False}, json.dumps(claims()).encode()),
    "kid no text": by_hand({**HS, "kid": 7}, json.dumps(claims()).encode()),
    "sub no text": by_hand(HS, json.dumps(claims(sub=7)).encode()),
    "rsa": jwt.encode(
        claims(), RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "RS256"
    ),
}

GUARDED = [operation for operation in TABLE if operation.scope != "open"]
OPEN = [operation for operation in TABLE if operation.scope == "open"]
SMALLER = {"read": [], "operate": ["read"], "write": ["read", "operate"]}


def path_of(operation: Operation) -> str:
    return operation.path.replace("{endpoint_id}", "users").replace("{path}", "users")


@pytest.fixture(scope="module")
def secrets_of_config() -> Authenticator:
    return Authenticator(JwtConfig(secret=SECRET), FixedKeys({"HS256": SECRET.encode()}))


# ---- tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_proves_nothing(name: str, secrets_of_config: Authenticator) -> None:
    """Forged, expired, malformed or of another algorithm: 401, whatever it says inside."""
    with pytest.raises(Unauthorized) as caught:
        await secrets_of_config.authorize(f"Bearer {BAD[name]}", "read")
    assert BAD[name] not in str(caught.value) + repr(caught.value.headers)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", f"Basic {token()}", token(), f"Token {token()}"]
)
async def test_no_token_is_asked_for(authorization: str | None, secrets_of_config: Authenticator) -> None:
    """What is no bearer token at all gets a challenge without an error (RFC 6750 3)."""
    with pytest.raises(Unauthorized) as caught:
        await secrets_of_config.authorize(authorization, "read")
    assert caught.value.headers == ((b"WWW-Authenticate", b'Bearer realm="trio-gateway"'),)


async def test_a_good_token_names_its_caller(secrets_of_config: Authenticator) -> None:
    """Subject and scope come from the claims; the scheme's name has no case (RFC 9110 11.1)."""
    principal = await secrets_of_config.authorize(f"bEARER  {token('operate', subject='ada')}", "read")
    assert (principal.subject, principal.scope) == ("ada", "operate")


@pytest.mark.parametrize(
    ("claim", "scope"),
    [
        ("read", "read"),
        ("email read operate", "operate"),
        ("write read", "write"),
        ("WRITE", "open"),
        ("", "open"),
        (["write"], "open"),
        ({"write": True}, "open"),
        (None, "open"),
    ],
)
async def test_the_largest_scope_counts(claim: object, scope: str, secrets_of_config: Authenticator) -> None:
    """A `scope` claim is words with spaces between them; others' words and shapes grant nothing."""
    encoded = by_hand(HS, json.dumps(claims(scope=claim)).encode())
    assert (await secrets_of_config.verify(encoded)).scope == scope
    if scope == "open":
        with pytest.raises(ScopeTooSmall):
            await secrets_of_config.authorize(f"Bearer {encoded}", "read")


@pytest.mark.parametrize(
    ("more", "good"),
    [
        ({"aud": "gateway", "iss": "us"}, True),
        ({"aud": ["other", "gateway"], "iss": "us"}, True),
        ({"aud": "other", "iss": "us"}, False),
        ({"aud": "gateway", "iss": "them"}, False),
        ({"aud": "gateway"}, False),
        ({"iss": "us"}, False),
    ],
)
async def test_audience_and_issuer_are_asked_for_when_configured(more: dict[str, Any], good: bool) -> None:
    """A token for somebody else, or from somebody else, is none."""
    config = JwtConfig(secret=SECRET, audience="gateway", issuer="us")
    authenticator = Authenticator(config, FixedKeys({"HS256": SECRET.encode()}))
    encoded = by_hand(HS, json.dumps(claims(**more)).encode())
    if good:
        assert (await authenticator.verify(encoded)).scope == "write"
    else:
        with pytest.raises(Unauthorized):
            await authenticator.verify(encoded)


async def test_an_audience_that_nobody_asked_for_is_ignored(secrets_of_config: Authenticator) -> None:
    """Without `audience` in the config any will do."""
    encoded = by_hand(HS, json.dumps(claims(aud="somebody")).encode())
    assert (await secrets_of_config.verify(encoded)).subject == "a"


# ---- public keys -------------------------------------------------------------------------------------


def confused() -> Iterator[str]:
    """Tokens that take the public key for the secret."""
    yield by_hand({"alg": "HS256"}, json.dumps(claims()).encode(), PEM)
    yield by_hand({"alg": "HS256"}, json.dumps(claims()).encode(), PEM.strip())
    yield by_hand({"alg": "RS256"}, json.dumps(claims()).encode(), PEM)


async def test_a_public_key_is_never_a_secret() -> None:
    """HS/RS confusion: signing with the public key gets nobody in."""
    authenticator = Authenticator(
        JwtConfig(public_key_file="k", algorithms=("RS256",)), FixedKeys({"RS256": RSA.public_key()})
    )
    for encoded in confused():
        with pytest.raises(Unauthorized):
            await authenticator.verify(encoded)
    assert (await authenticator.verify(jwt.encode(claims(), RSA, "RS256"))).scope == "write"


async def test_an_algorithm_that_is_not_configured_is_none() -> None:
    """Not even with the right key."""
    authenticator = Authenticator(
        JwtConfig(public_key_file="k", algorithms=("ES256",)),
        FixedKeys({"RS256": RSA.public_key(), "ES256": EC.public_key()}),
    )
    assert (await authenticator.verify(jwt.encode(claims(), EC, "ES256"))).scope == "write"
    with pytest.raises(Unauthorized):
        await authenticator.verify(jwt.encode(claims(), RSA, "RS256"))


# ---- on every operation ------------------------------------------------------------------------------


@fault("A1")
async def test_every_guarded_operation_refuses_every_bad_token(tmp_path: Path) -> None:
    """None, expired, forged, confused: 401 with a challenge, before anything is read or done."""
    async with control(tmp_path) as gateway:
        before = [entry.status for entry in gateway.plane.runtime.registry]
        for operation in GUARDED:
            for name in (None, "expired", "wrong secret", "alg none", "rsa", "no exp"):
                sent = [] if name is None else [f"Authorization: Bearer {BAD[name]}"]
                reply = await gateway.fetch(operation.method, path_of(operation), *sent, scope=None)
                assert (reply.status, reply.json["code"]) == (401, "unauthorized"), (operation.name, name)
                assert reply.header("WWW-Authenticate").startswith("Bearer ")
        assert [entry.status for entry in gateway.plane.runtime.registry] == before


async def test_every_guarded_operation_refuses_a_small_scope(tmp_path: Path) -> None:
    """A good token that is not for this: 403, and the scope that it takes."""
    async with control(tmp_path) as gateway:
        for operation in GUARDED:
            for scope in ["open", *SMALLER[operation.scope]]:
                reply = await gateway.fetch(operation.method, path_of(operation), scope=scope)  # type: ignore[arg-type]
                assert (reply.status, reply.json["code"]) == (403, "insufficient_scope"), operation.name
                assert f'scope="{operation.scope}"' in reply.header("WWW-Authenticate")


async def test_each_scope_is_enough_for_its_operations(tmp_path: Path) -> None:
    """The very scope that the table names opens the operation."""
    async with control(tmp_path) as gateway:
        for operation in GUARDED:
            reply = await gateway.fetch(operation.method, path_of(operation), scope=operation.scope)
            assert reply.status not in (401, 403), operation.name


async def test_open_operations_ask_for_nothing(tmp_path: Path) -> None:
    """They answer without a token, and with any."""
    async with control(tmp_path) as gateway:
        for operation in OPEN:
            for sent in ((), ("Authorization: Bearer nonsense",)):
                reply = await gateway.fetch(operation.method, operation.path, *sent, scope=None)
                assert reply.status in (200, 307), operation.name


def test_the_contract_s_open_operations_are_all() -> None:
    """Exactly these need no token."""
    paths = {operation.path for operation in OPEN} | {"/docs", "/openapi.json"}
    assert paths == {"/", "/health", "/livez", "/readyz", "/docs", "/redoc", "/openapi.json"}


async def test_auth_none_lets_everybody_in(tmp_path: Path) -> None:
    """In writing, and not by leaving something out."""
    async with control(tmp_path, "admin: {auth: none}\nendpoints: []\n") as gateway:
        assert (await gateway.post("/config/reload", scope=None)).status == 200
    async with control(tmp_path, "endpoints: []\n") as gateway:
        assert (await gateway.post("/config/reload", scope=None)).status == 401
        own = token(secret=(tmp_path / "state" / "secret").read_text().strip())
        reply = await gateway.post("/config/reload", f"Authorization: Bearer {own}", scope=None)
        assert reply.status == 200
