"""Backends over TLS: who is trusted, which name is asked for, and that an idle connection stays usable."""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import h11
import pytest
import trio
import trustme
from attrs import define, field

from tests.e2e.here import RealWorld, real_world
from tests.support.client import Answer, request
from tests.support.upstream import answering

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@define
class Authority:
    """A CA of our own, and the files that a config can name."""

    ca: trustme.CA
    folder: Path

    def server(self, *names: str) -> ssl.SSLContext:
        """What a backend of these names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def file(self, name: str, blob: trustme.Blob) -> str:
        """A PEM file."""
        blob.write_to_path(path := str(self.folder / name))
        return path

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return self.file("ca.pem", self.ca.cert_pem)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority(trustme.CA(), tmp_path)


@define
class SecureBackend:
    """Serves requests over TLS; notes connections, the names asked for, and clients' certificates."""

    context: ssl.SSLContext
    connections: int = 0
    names: list[str | None] = field(factory=list)
    subjects: list[object] = field(factory=list)
    cut: bool = False
    versions: set[str | None] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.context.sni_callback = lambda _sock, name, _context: self.names.append(name)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        self.connections += 1
        secure = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            await secure.do_handshake()
            self.versions.add(secure.version())
            self.subjects.append((secure.getpeercert() or {}).get("subject"))
            await self._answer(secure)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(secure)

    async def _answer(self, secure: trio.SSLStream[trio.SocketStream]) -> None:
        """Echo bodies; a reply that is to be cut has no length and no end."""
        data = b""
        async for piece in secure:
            data += piece
            head, end, body = data.partition(b"\r\n\r\n")
            found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            if not end or (found and len(body) < int(found[1])):
                continue
            if self.cut:
                await secure.send_all(b"HTTP/1.1 200 OK\r\n\r\nonly a part")
                return
            await secure.send_all(_REPLY % (len(body), body))
            data = b""


@asynccontextmanager
async def _world(backend: SecureBackend, tls: str, host: str = "localhost") -> AsyncIterator[RealWorld]:
    """A gateway before the backend, which it calls `host`."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, backend.serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        text = f"""
            server: {{bind: ["127.0.0.1:0"]}}
            circuit_breaker: {{failure_threshold: 100}}
            health_check: {{enabled: false}}
            endpoints:
              - {{url: "https://{host}:{port}/", name: users, methods: [GET, POST], tls: {{{tls}}}}}
        """
        async with real_world(answering, text) as world:
            yield world
        nursery.cancel_scope.cancel()


async def _get(world: RealWorld) -> Answer:
    return await world.get("/orchestrator/users/x")


async def test_a_backend_of_our_own_ca_is_verified_and_asked_for_by_name(authority: Authority) -> None:
    """With `tls.ca` a certificate of that CA for the url's host is good; SNI names the host."""
    backend = SecureBackend(authority.server("localhost"))
    async with _world(backend, f"ca: {authority.pem}") as world:
        answer = await _get(world)
    assert (answer.status, answer.body) == (200, b"")
    assert backend.names == ["localhost"]


async def test_an_address_is_verified_as_an_address(authority: Authority) -> None:
    """A backend called by its address needs it in the certificate; no name is sent (RFC 6066 3)."""
    backend = SecureBackend(authority.server("127.0.0.1"))
    async with _world(backend, f"ca: {authority.pem}", "127.0.0.1") as world:
        assert (await _get(world)).status == 200
    assert backend.names == [None]


async def test_server_name_is_sent_and_verified_instead_of_the_host(authority: Authority) -> None:
    """`tls.server_name` replaces the url's host in SNI and in the verification."""
    backend = SecureBackend(authority.server("backend.example"))
    async with _world(backend, f"ca: {authority.pem}, server_name: backend.example") as world:
        assert (await _get(world)).status == 200
    assert backend.names == ["backend.example"]


@pytest.mark.parametrize("names", [("other.example",), ("localhost.example",), ("*.localhost",)])
async def test_a_certificate_for_another_name_is_refused(
    authority: Authority, names: tuple[str, ...]
) -> None:
    """A certificate that names somebody else gets the client 502, and the reason stays inside."""
    backend = SecureBackend(authority.server(*names))
    async with _world(backend, f"ca: {authority.pem}") as world:
        answer = await _get(world)
        assert world.reasons == ["connect_failed"]
    assert answer.status == 502
    assert b"certificate" not in answer.body
    assert backend.subjects == [] or backend.subjects == [None]


async def test_a_ca_that_is_not_trusted_is_refused_unless_verification_is_off(authority: Authority) -> None:
    """Without `tls.ca` only the system's CAs count; `verify: false` takes any certificate."""
    backend = SecureBackend(authority.server("localhost"))
    async with _world(backend, "") as world:
        assert (await _get(world)).status == 502
    async with _world(backend, "verify: false") as world:
        assert (await _get(world)).status == 200


async def test_a_client_certificate_is_shown_to_a_backend_that_asks(authority: Authority) -> None:
    """`tls.cert` and `tls.key` are presented; without them such a backend is a 502."""
    context = authority.server("localhost")
    authority.ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    backend = SecureBackend(context)
    issued = authority.ca.issue_cert("gateway@example.org")
    files = (
        authority.file("cert.pem", issued.cert_chain_pems[0]),
        authority.file("key.pem", issued.private_key_pem),
    )
    async with _world(backend, f"ca: {authority.pem}, cert: {files[0]}, key: {files[1]}") as world:
        assert (await _get(world)).status == 200
    (subject,) = backend.subjects
    assert subject
    async with _world(backend, f"ca: {authority.pem}") as world:
        assert (await _get(world)).status == 502


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_session_tickets_do_not_cost_the_connection(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """TLS 1.3 tickets make an idle socket readable; the pooled connection serves on all the same."""
    context = authority.server("localhost")
    context.minimum_version = context.maximum_version = version
    if version is ssl.TLSVersion.TLSv1_3:
        context.num_tickets = 8
    backend = SecureBackend(context)
    async with _world(backend, f"ca: {authority.pem}") as world:
        for _ in range(5):
            assert (await _get(world)).status == 200
            await trio.sleep(0.02)
    assert backend.connections == 1
    assert backend.versions == {"TLSv1.3" if version is ssl.TLSVersion.TLSv1_3 else "TLSv1.2"}


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 3_000_000])
async def test_bodies_of_any_size_pass_in_both_directions(authority: Authority, size: int) -> None:
    """Records may end anywhere: no byte stays in the TLS layer, none is sent twice."""
    backend = SecureBackend(authority.server("localhost"))
    sent = random.Random(size).randbytes(size)
    async with _world(backend, f"ca: {authority.pem}") as world:
        client = await world.client()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, request("/orchestrator/users/echo", method="POST", body=sent))
            answer = await client.answer("POST")
    assert answer.status == 200
    assert answer.body == sent


async def test_a_reply_cut_by_the_end_of_the_connection_is_shown_as_cut(authority: Authority) -> None:
    """TLS that ends without close_notify may have lost something: the client's reply must not look whole."""
    backend = SecureBackend(authority.server("localhost"), cut=True)
    async with _world(backend, f"ca: {authority.pem}") as world:
        client = await world.client()
        await client.send(request("/orchestrator/users/cut"))
        with pytest.raises(h11.RemoteProtocolError):
            await client.answer()
        await world.settled()
        assert world.reasons == ["upstream_truncated"]
