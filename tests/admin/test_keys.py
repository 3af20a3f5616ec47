"""What verifies tokens."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
import trustme
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from trio.testing import MockClock

from tests.admin.control import SECRET
from trio_gateway.admin.keys import REFRESH, FixedKeys, KeySet, fetch_key_set, open_keys
from trio_gateway.config.model import JwtConfig
from trio_gateway.errors import ConfigError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(key: Any, **more: str) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), **more}


@define
class Publisher:
    """Somebody's key set. What it holds is bytes, or an exception."""

    document: bytes | Exception
    fetches: int = 0
    waits: trio.Event | None = None
    urls: list[str] = field(factory=list)

    @classmethod
    def of(cls, *keys: dict[str, Any]) -> Publisher:
        return cls(json.dumps({"keys": keys}).encode())

    async def __call__(self, url: str) -> bytes:
        self.fetches += 1
        self.urls.append(url)
        if self.waits is not None:
            await self.waits.wait()
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


# ---- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
async def test_a_public_key_file_verifies_its_algorithm(tmp_path: Path, key: Any, algorithm: Any) -> None:
    """And no other; the key's kind decides, not the token."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    keys = open_keys(JwtConfig(public_key_file=str(path), algorithms=("RS256", "ES256")), str)
    assert await keys.find(algorithm, "any") is not None
    assert [await keys.find(other, None) for other in ("HS256", "none", "RS512")] == [None, None, None]


@pytest.mark.parametrize("content", [None, b"", b"nonsense", pem(WEAK), pem(OTHER_CURVE), pem(EC)])
def test_a_file_without_a_usable_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, garbage, too weak, another curve, another algorithm: told by its config key."""
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^admin\.auth\.jwt\.public_key_file: "):
        open_keys(JwtConfig(public_key_file=str(path), algorithms=("RS256",)), str)


async def test_a_secret_is_for_hmac_alone() -> None:
    """The config's or the gateway's own."""
    keys = open_keys(JwtConfig(secret=SECRET), str)
    assert (await keys.find("HS256", None), await keys.find("RS256", None)) == (SECRET.encode(), None)
    assert await open_keys(JwtConfig(), lambda: "own").find("HS256", None) == b"own"
    assert SECRET not in repr(keys) + repr(FixedKeys({"HS256": SECRET.encode()}))


# ---- key sets ----------------------------------------------------------------------------------------


async def test_a_key_is_found_by_its_id(autojump_clock: MockClock) -> None:
    """One fetch serves every token; the id and the algorithm both have to fit."""
    publisher = Publisher.of(jwk(RSA, kid="r"), jwk(EC, kid="e", use="sig"))
    keys = KeySet("https://k.example/set", publisher)
    assert await keys.find("RS256", "r") is not None
    assert await keys.find("ES256", "e") is not None
    assert [await keys.find("ES256", "r"), await keys.find("RS256", None), await keys.find("HS256", "r")] == [
        None
    ] * 3
    assert (publisher.fetches, publisher.urls[0]) == (1, "https://k.example/set")


async def test_the_only_key_needs_no_id(autojump_clock: MockClock) -> None:
    """A set of one key leaves no doubt."""
    assert await KeySet("u", Publisher.of(jwk(EC, kid="e"))).find("ES256", None) is not None
    assert await KeySet("u", Publisher.of(jwk(EC))).find("ES256", None) is not None


async def test_an_unknown_id_fetches_again_but_not_at_will(autojump_clock: MockClock) -> None:
    """A new key is found at once after REFRESH seconds; tokens with made-up ids cost nothing before."""
    publisher = Publisher.of(jwk(RSA, kid="old"))
    keys = KeySet("u", publisher)
    await keys.find("RS256", "old")
    publisher.document = Publisher.of(jwk(RSA, kid="old"), jwk(EC, kid="new")).document
    for _ in range(100):
        assert await keys.find("ES256", "new") is None
    assert publisher.fetches == 1
    await trio.sleep(REFRESH)
    assert await keys.find("ES256", "new") is not None
    assert publisher.fetches == 2


async def test_a_key_that_was_taken_back_ends(autojump_clock: MockClock) -> None:
    """A set is fetched anew after an hour, even while its keys are known."""
    publisher = Publisher.of(jwk(RSA, kid="r"), jwk(EC, kid="e"))
    keys = KeySet("u", publisher)
    await keys.find("RS256", "r")
    publisher.document = Publisher.of(jwk(EC, kid="e")).document
    await trio.sleep(3601)
    assert await keys.find("RS256", "r") is None
    assert await keys.find("ES256", "e") is not None
    assert publisher.fetches == 2


NONSENSE: list[bytes | Exception] = [
    OSError("down"),
    ValueError("status 500"),
    b"",
    b"\xff",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"keys": []}',
    b'{"keys": [[]]}',
    b'{"keys": 1}',
]


@pytest.mark.parametrize("document", NONSENSE, ids=lambda document: repr(document)[:20])
async def test_a_publisher_that_fails_takes_nothing_away(
    document: bytes | Exception, autojump_clock: MockClock
) -> None:
    """Known keys go on; unknown ones are not found; the next try comes in its time."""
    publisher = Publisher.of(jwk(RSA, kid="r"))
    keys = KeySet("u", publisher)
    await keys.find("RS256", "r")
    publisher.document = document
    await trio.sleep(REFRESH)
    assert await keys.find("RS256", "unknown") is None
    assert await keys.find("RS256", "r") is not None
    assert publisher.fetches == 2


async def test_a_publisher_that_hangs_holds_nobody_for_long(autojump_clock: MockClock) -> None:
    """Five seconds, and one fetch however many wait."""
    publisher = Publisher.of(jwk(RSA, kid="r"))
    publisher.waits = trio.Event()
    keys = KeySet("u", publisher)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(keys.find, "RS256", "r")
    assert publisher.fetches == 1
    assert trio.current_time() - began == 5


async def test_a_caller_that_leaves_does_not_waste_the_turn(autojump_clock: MockClock) -> None:
    """The fetch that it began serves the next one."""
    publisher = Publisher.of(jwk(RSA, kid="r"))
    publisher.waits = trio.Event()
    keys = KeySet("u", publisher)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.find, "RS256", "r")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        publisher.waits.set()
    assert await keys.find("RS256", "r") is not None
    assert publisher.fetches == 1


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k", "alg": "HS256"},
        jwk(WEAK, kid="k"),
        jwk(OTHER_CURVE, kid="k"),
        jwk(RSA, kid="k", use="enc"),
        {"kty": "unheard of", "kid": "k"},
    ],
)
async def test_keys_that_must_not_verify_are_left_out(key: dict[str, Any], autojump_clock: MockClock) -> None:
    """Secrets in public, weak keys, other curves, encryption keys; the others of the set stay."""
    keys = KeySet("u", Publisher.of(key, jwk(EC, kid="good")))
    assert [await keys.find(algorithm, "k") for algorithm in ("HS256", "RS256", "ES256")] == [None] * 3
    assert await keys.find("ES256", "good") is not None


# ---- fetching ----------------------------------------------------------------------------------------


async def answer(stream: trio.SocketStream, reply: bytes) -> None:
    async with stream:
        await stream.receive_some()
        await stream.send_all(reply)


async def fetched(reply: bytes) -> bytes:
    """What `fetch_key_set` makes of a server's reply."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: answer(stream, reply), 0)
        port = listeners[0].socket.getsockname()[1]
        try:
            return await fetch_key_set(f"http://127.0.0.1:{port}/keys")
        finally:
            nursery.cancel_scope.cancel()


async def test_a_document_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over httpx, whatever proxies the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert await fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == b"{}"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 600_000,
    ],
)
async def test_what_is_no_key_set_is_refused(reply: bytes) -> None:
    """Redirects are not followed, errors are errors, and nothing is read without end."""
    with pytest.RaisesGroup(ValueError):
        await fetched(reply)


async def test_a_certificate_has_to_be_good() -> None:
    """Who could stand in for the publisher could sign tokens."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, server)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        keys = KeySet(f"https://127.0.0.1:{port}/keys")
        assert await keys.find("RS256", "r") is None
        nursery.cancel_scope.cancel()
