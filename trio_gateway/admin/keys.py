"""What verifies tokens: one secret, one public key, or a key set that somebody else publishes.

An algorithm belongs to a key, never to a token: HS256 only ever meets the secret, RS256 only RSA keys of
2048 bits or more, ES256 only keys on P-256. So no token can make a public key pass for a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import httpx
import jwt
import structlog
import trio
from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from trio_gateway.admin.tokens import read_key_file, signing_secret
from trio_gateway.config.model import JwtConfig
from trio_gateway.errors import ConfigError

log = structlog.get_logger("trio_gateway.admin")

SHORTEST_RSA = 2048  # bits (RFC 7518 3.3)
REFRESH = 30.0  # seconds between two fetches of a key set, whatever tokens ask for
_KEEP = 3600.0  # seconds until a key set is fetched again: a key taken out of it must stop to count
_FETCH_TIMEOUT = 5.0
_LARGEST_KEY_SET = 512 * 1024

# What a publisher can make of a fetch: PyJWT stumbles over some documents that are no key set.
_NO_KEY_SET = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    httpx.HTTPError,
    jwt.PyJWTError,
)

Key = bytes | RSAPublicKey | EllipticCurvePublicKey
Fetch = Callable[[str], Awaitable[bytes]]


class Keys(Protocol):
    """A source of keys."""

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key that verifies a token with this header, or None."""
        ...


def open_keys(config: JwtConfig, own_secret: Callable[[], str]) -> Keys:
    """The keys of a checked config. `own_secret` is asked where it names none.

    Raises ConfigError for a file that can't be read or holds no usable key.
    """
    if config.jwks_url is not None:
        return KeySet(config.jwks_url)
    if config.public_key_file is not None:
        return FixedKeys(_public_key(config.public_key_file, config.algorithms))
    return FixedKeys({"HS256": signing_secret(config, own_secret)})


def _public_key(path: str, algorithms: tuple[str, ...]) -> dict[str, Key]:
    pem = read_key_file(path, "public_key_file")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError):  # also for a kind of key that the library does not know
        key = None
    algorithm = _algorithm_of(key)
    if algorithm is None or algorithm not in algorithms:
        wanted = " or ".join(algorithms)
        raise ConfigError([f"admin.auth.jwt.public_key_file: holds no PEM public key for {wanted}"])
    return {algorithm: key}  # type: ignore[dict-item]  # what has an algorithm is a Key


def _algorithm_of(key: object) -> str | None:
    """The one algorithm that goes with a public key, or None for a key that is not good enough."""
    if isinstance(key, RSAPublicKey) and key.key_size >= SHORTEST_RSA:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return None


@frozen
class FixedKeys:
    """Keys that stand in the config: one for an algorithm, whatever `kid` says."""

    _keys: dict[str, Key] = field(repr=False)

    async def find(self, algorithm: str, kid: str | None) -> Key | None:  # noqa: ARG002  see Keys
        """See Keys."""
        return self._keys.get(algorithm)


@define(eq=False)
class KeySet:
    """The keys behind a JWKS url (RFC 7517), by `kid`.

    An unknown `kid` fetches the set again, at most once in REFRESH seconds. While its publisher is down
    or talks nonsense, the keys that we have go on.
    """

    url: str
    fetch: Fetch = field(factory=lambda: fetch_key_set)
    _keys: dict[str | None, tuple[str, Key]] = field(factory=dict, repr=False)
    _fetched: float | None = None
    _turn: trio.Lock = field(factory=trio.Lock)

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """See Keys. A token without a `kid` is verified by the set's only key."""
        key = self._known(algorithm, kid)
        if key is None or self._age() > _KEEP:
            await self._refresh(algorithm, kid)
            key = self._known(algorithm, kid)
        return key

    def _known(self, algorithm: str, kid: str | None) -> Key | None:
        if kid is None and len(self._keys) == 1:
            (found,) = self._keys.values()
        else:
            found = self._keys.get(kid, ("", b""))
        return found[1] if found[0] == algorithm else None

    def _age(self) -> float:
        return float("inf") if self._fetched is None else trio.current_time() - self._fetched

    async def _refresh(self, algorithm: str, kid: str | None) -> None:
        """Fetch, unless that was done just now. A client that leaves meanwhile does not waste the turn."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _FETCH_TIMEOUT):
            async with self._turn:
                if self._age() < REFRESH or (self._known(algorithm, kid) and self._age() <= _KEEP):
                    return
                self._fetched = trio.current_time()
                try:
                    self._keys = _parse(await self.fetch(self.url))
                except _NO_KEY_SET as error:
                    log.warning("key set not fetched", url=self.url, error=str(error) or type(error).__name__)


def _parse(document: bytes) -> dict[str | None, tuple[str, Key]]:
    """The usable keys. Secrets, encryption keys and what we can't read are left out."""
    keys: dict[str | None, tuple[str, Key]] = {}
    for jwk in jwt.PyJWKSet.from_json(document.decode()).keys:
        algorithm = _algorithm_of(jwk.key)
        if algorithm is not None and jwk.public_key_use in (None, "sig"):
            keys[jwk.key_id] = algorithm, jwk.key
    return keys


async def fetch_key_set(url: str) -> bytes:
    """The document at `url`. Raises OSError, ValueError or httpx.HTTPError; the caller bounds the time."""
    async with (
        httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=_FETCH_TIMEOUT,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        ) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as reply,
    ):
        if reply.status_code != 200:
            raise ValueError(f"status {reply.status_code}")
        document, length = b"", 0
        async for piece in reply.aiter_bytes():  # to its end: httpx's generators must not be left halfway
            length += len(piece)
            document = document + piece if length <= _LARGEST_KEY_SET else b""
        if length > _LARGEST_KEY_SET:
            raise ValueError(f"more than {_LARGEST_KEY_SET} bytes")
        return document
