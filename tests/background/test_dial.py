"""Dialling: over TLS as the endpoint says, nothing left open, and reasons that an operator understands."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from tests.support.upstream import Upstream, Wire
from trio_gateway.background.dial import Answer, Dial, Enough, ProbeFailed, reason, resource_of, target_of
from trio_gateway.config.model import EndpointConfig, EndpointTls
from trio_gateway.domain.health import Check
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.tls_link import TlsLink

URL = "https://a.example/"


def check(url: str = URL, path: str | None = None, **tls: str | bool) -> Check:
    return Check.of(EndpointConfig(url=url, name="a", health_check_path=path, tls=EndpointTls(**tls)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the backends' certificates."""
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate, as `tls.ca` wants it."""
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    return path


@asynccontextmanager
async def secure_backend(certificate: trustme.LeafCert) -> AsyncIterator[MemoryNetwork]:
    """Something at https://a.example that shakes hands and waits; afterwards no connection is left open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def script(wire: Wire) -> None:
        secure = TlsLink(wire.link, context)
        try:
            await secure.handshake()
            await secure.receive()
        finally:
            secure.close()

    network, upstream = MemoryNetwork(), Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, "a.example", 443)
        yield network
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert upstream.open == 0
        nursery.cancel_scope.cancel()


async def dialled(network: MemoryNetwork, asked: Check) -> bool:
    """Connect as the check says and hang up; whether it was TLS."""
    link = await Dial(network)(asked, target_of(asked.url))
    link.close()
    return link.tls


# ---- TLS -------------------------------------------------------------------------------------------


async def test_a_trusted_backend_is_dialled_over_tls(authority: trustme.CA, ca: str) -> None:
    """With the CA and the name that the endpoint's `tls` says."""
    async with secure_backend(authority.issue_cert("a.example")) as network:
        assert await dialled(network, check(ca=ca))
    async with secure_backend(authority.issue_cert("inner.example")) as network:
        assert await dialled(network, check(ca=ca, server_name="inner.example"))


async def test_an_untrusted_backend_is_not_alive(authority: trustme.CA, ca: str) -> None:
    """The reason is the verifier's: unknown authority, or another name."""
    async with secure_backend(authority.issue_cert("a.example")) as network:
        with pytest.raises(ssl.SSLCertVerificationError) as unknown:
            await dialled(network, check())
        assert reason(unknown.value).startswith("TLS: unable to get local issuer certificate")
    async with secure_backend(authority.issue_cert("b.example")) as network:
        with pytest.raises(ssl.SSLCertVerificationError) as other:
            await dialled(network, check(ca=ca))
        assert reason(other.value).startswith("TLS: Hostname mismatch")


async def test_verification_can_be_switched_off(authority: trustme.CA) -> None:
    """`tls.verify: false` holds for probes, too."""
    async with secure_backend(authority.issue_cert("b.example")) as network:
        assert await dialled(network, check(verify=False))


async def test_equal_settings_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many endpoints share them: loading costs 16 ms each time."""
    loaded: list[EndpointTls] = []
    context = ssl.create_default_context()

    def load(tls: EndpointTls) -> ssl.SSLContext:
        loaded.append(tls)
        return context

    monkeypatch.setattr("trio_gateway.background.dial.client_context", load)
    dial = Dial(MemoryNetwork())
    for url in (URL, "https://b.example/", URL):
        with pytest.raises(ConnectionRefusedError):
            await dial(check(url), target_of(check(url).url))
    assert loaded == [EndpointTls()]


async def test_a_missing_file_is_a_reason(tmp_path: Path) -> None:
    """An unreadable CA file fails the check, not the prober."""
    with pytest.raises(OSError) as missing:
        await dialled(MemoryNetwork(), check(ca=str(tmp_path / "none.pem")))
    assert reason(missing.value) == "connection error: No such file or directory"


async def test_a_backend_without_tls_is_not_alive_over_it() -> None:
    """What answers a handshake with something else is named so."""

    async def plain(wire: Wire) -> None:
        await wire.send(b"220 mail.example ESMTP\r\n")
        await wire.closed()

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(Upstream(plain).serve, network, "a.example", 443)
        with pytest.raises(ssl.SSLError) as wrong:
            await dialled(network, check())
        nursery.cancel_scope.cancel()
    assert reason(wrong.value) == "TLS: WRONG_VERSION_NUMBER"


async def test_cancelled_in_the_handshake_nothing_stays_open(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that takes the connection and says nothing sees it end."""
    ended = []

    async def mute(wire: Wire) -> None:
        await wire.closed()
        ended.append(True)

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(Upstream(mute).serve, network, "a.example", 443)
        with trio.move_on_after(1):
            await dialled(network, check())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [True]


# ---- where to, and how much ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path", "port", "resource"),
    [
        ("http://a.example/", None, 80, b"/"),
        ("https://a.example/v1?x=1", None, 443, b"/v1?x=1"),
        ("http://a.example:81/v1", "health?", 81, b"/health"),
        ("http://a.example/v1", "/%7Eup?a=%20", 80, b"/%7Eup?a=%20"),
    ],
)
def test_targets(url: str, path: str | None, port: int, resource: bytes) -> None:
    """Host and port to connect to, and path and query to the byte."""
    target = target_of(check(url, path).url)
    assert (target.host, target.port, resource_of(target)) == ("a.example", port, resource)


@pytest.mark.parametrize("path", ["//[bad/", "//b.example:99999/", "http:///health"])
def test_a_path_that_makes_no_url_fails_the_check(path: str) -> None:
    """What only the joined url shows to be wrong is the operator's to read."""
    with pytest.raises(ProbeFailed, match="makes no usable url"):
        target_of(check(path=path).url)


async def test_an_answer_ends_after_64_kib() -> None:
    """To the byte, however it is asked for; the next byte would be one too many."""

    async def endless(wire: Wire) -> None:
        while True:
            await wire.send(b"x" * 1000)

    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(Upstream(endless).serve, network, "a.example", 80)
        link: Link = await network.connect("a.example", 80)
        answer, taken = Answer(link), 0
        while taken < 65_536:
            taken += len(await answer.receive(1 << 20))
        with pytest.raises(Enough):
            await answer.receive(1)
        link.close()
        nursery.cancel_scope.cancel()
    assert taken == 65_536


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProbeFailed("status 503"), "status 503"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)),
            "connection error: Connection refused",
        ),
        (OSError("all attempts to connect failed"), "connection error: all attempts to connect failed"),
    ],
)
def test_reasons(error: ProbeFailed | OSError, expected: str) -> None:
    """Short, and without a number that only a programmer knows."""
    assert reason(error) == expected
