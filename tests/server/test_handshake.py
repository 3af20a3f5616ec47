"""The handshake that a TLS client begins with: its timer, and a word for each way to fail."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from attrs import define
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.support.authority import Authority
from trio_gateway.config.model import ServerTls
from trio_gateway.errors import BadRequest
from trio_gateway.observe.metrics import TlsStats
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.termination import Termination, load_termination
from trio_gateway.proxy.tls_link import TlsLink
from trio_gateway.server.handshake import reason_of, shake_hands

NAME = "gateway.example"


@define
class Front:
    """One connection before its handshake, from both sides, and what is counted."""

    authority: Authority
    termination: Termination
    near: Link
    far: Link
    stats: TlsStats

    async def shake(self, timeout: float = 5.0) -> TlsLink:
        """Our side."""
        return await shake_hands(self.near, self.termination, timeout, self.stats)

    async def meet(self, client: ssl.SSLContext) -> TlsLink:
        """Both sides, as far as they get; ours raises."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._knock, client)
            return await self.shake()

    async def _knock(self, client: ssl.SSLContext) -> None:
        try:
            await TlsLink(self.far, client, NAME).handshake()
        except OSError:
            self.far.close()


def front(folder: Path, *, verifies: bool = False, least: str = "1.2") -> Front:
    authority = Authority(folder)
    pair = authority.issue(NAME)
    tls = ServerTls(pair.cert, pair.key, authority.pem if verifies else None, least)  # type: ignore[arg-type]
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    near, far = (Link(end, ("192.0.2.7", 1), ("here", 2)) for end in ends)
    return Front(authority, load_termination(tls), near, far, TlsStats())


async def test_a_handshake_makes_a_tls_link(tmp_path: Path) -> None:
    """Counted by its version; without a certificate there is nothing to tell of the client."""
    here = front(tmp_path)
    link = await here.meet(here.authority.client("h2"))
    assert (link.alpn, link.client_certificate, link.peer) == ("h2", b"", ("192.0.2.7", 1))
    assert (here.stats.handshakes, here.stats.failures) == ({"TLSv1.3": 1}, {})
    link.close()
    here.far.close()


async def test_a_client_s_certificate_is_what_upstreams_are_told(tmp_path: Path) -> None:
    """Once it is verified."""
    here = front(tmp_path, verifies=True)
    alice = here.authority.ca.issue_cert("alice@example.org", common_name="alice")
    link = await here.meet(here.authority.client(show=alice))
    assert link.client_certificate.startswith(b"Hash=")
    assert b"CN=alice" in link.client_certificate
    link.close()
    here.far.close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_silence_ends_at_the_timer(said: bytes, tmp_path: Path, autojump_clock: MockClock) -> None:
    """From the first byte on, whatever was said before."""
    here = front(tmp_path)
    here.far.send_nowait(said)
    with pytest.raises(OSError, match="timeout"):
        await here.shake(timeout=3)
    assert trio.current_time() == pytest.approx(3, abs=0.1)
    assert here.stats.failures == {"timeout": 1}
    here.near.close()
    here.far.close()


async def test_a_client_that_reads_nothing_ends_at_the_timer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its hello is answered into a full buffer."""
    here = front(tmp_path)
    here.near._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    while not here.near.send_nowait(b"x" * 100):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here._knock, here.authority.client())
        with pytest.raises(OSError, match=r"timeout|malformed|closed"):
            await here.shake(timeout=3)
        here.near.close()
        nursery.cancel_scope.cancel()
    assert sum(here.stats.failures.values()) == 1
    here.far.close()


@pytest.mark.parametrize("said", [b"\x00" * 64, b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_nonsense_ends_the_connection(said: bytes, tmp_path: Path) -> None:
    """None of its bytes is logged."""
    here = front(tmp_path)
    here.far.send_nowait(said)
    with capture_logs() as lines, pytest.raises(OSError, match="malformed"):
        await here.shake()
    assert here.stats.failures == {"malformed": 1}
    (line,) = lines
    assert (line["log_level"], line["peer"], line["reason"]) == ("debug", "192.0.2.7", "malformed")
    here.near.close()
    here.far.close()


async def test_plain_http_can_be_answered(tmp_path: Path) -> None:
    """On the link below, in the words of HTTP."""
    here = front(tmp_path)
    here.far.send_nowait(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises(BadRequest, match="This port speaks TLS: use https"):
        await here.shake()
    assert here.stats.failures == {"plain_http": 1}
    assert here.far.receive_nowait() is None  # no alert
    await here.near.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert here.far.receive_nowait() == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    here.near.close()
    here.far.close()


async def test_a_client_that_leaves_is_counted_as_such(tmp_path: Path) -> None:
    """As health checks of TCP load balancers do, every few seconds."""
    here = front(tmp_path)
    here.far.close()
    with pytest.raises(OSError, match="closed"):
        await here.shake()
    assert here.stats.failures == {"closed": 1}
    here.near.close()


async def test_versions_without_an_overlap(tmp_path: Path) -> None:
    """A client that is too old."""
    here = front(tmp_path, least="1.3")
    client = here.authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ExceptionGroup) as group:
        await here.meet(client)
    assert group.group_contains(OSError, match="nothing_in_common")
    here.near.close()
    here.far.close()


@pytest.mark.parametrize("stranger", [False, True])
async def test_clients_without_a_good_certificate(stranger: bool, tmp_path: Path) -> None:
    """None, or one of another CA."""
    here = front(tmp_path, verifies=True)
    show = trustme.CA().issue_cert("alice@example.org") if stranger else None
    with pytest.raises(ExceptionGroup) as group:
        await here.meet(here.authority.client(show=show))
    assert group.group_contains(OSError, match="client_certificate")
    here.near.close()
    here.far.close()


async def test_a_client_that_does_not_trust_us(tmp_path: Path) -> None:
    """It says so with an alert."""
    here = front(tmp_path)
    with pytest.raises(ExceptionGroup) as group:
        await here.meet(Authority(tmp_path).client())
    assert group.group_contains(OSError, match="refused_by_client")
    here.near.close()
    here.far.close()


def test_a_reason_that_nobody_knows_has_a_word() -> None:
    """The number of reasons is bounded by us, not by OpenSSL's versions."""
    error = ssl.SSLError(1, "something new")
    error.reason = "SOMETHING_NEW"
    assert reason_of(error) == "malformed"
