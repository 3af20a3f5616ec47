"""Certificate files that change while the gateway runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing
import trio
from attrs import define
from structlog.typing import EventDict
from trio.testing import MockClock

from tests.support.authority import Authority
from tests.support.disk import at_once
from trio_gateway.background.renewal import CertificateWatcher
from trio_gateway.config.model import ServerTls
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.termination import Termination, load_termination


@define
class Place:
    """Files that are watched, the runtime behind them, and what was logged."""

    authority: Authority
    config: ServerTls
    runtime: Runtime
    log: list[EventDict]

    @property
    def termination(self) -> Termination:
        """What the next client meets."""
        assert self.runtime.termination is not None
        return self.runtime.termination

    @property
    def key(self) -> Path:
        """The file of the private key."""
        return Path(str(self.config.key))

    def write_key(self, content: bytes) -> bytes:
        """Another content; returns the old one."""
        old = self.key.read_bytes()
        self.key.write_bytes(content)
        return old

    @property
    def names(self) -> tuple[str, ...]:
        """Of the certificate in use."""
        (certificate,) = self.termination.certificates.values()
        return certificate.names


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A certificate for `before.example`, watched in virtual time."""
    async with watched(Authority(tmp_path)) as place:
        yield place


@asynccontextmanager
async def watched(authority: Authority) -> AsyncIterator[Place]:
    pair = authority.issue("before.example")
    config = ServerTls(pair.cert, pair.key)
    runtime = Runtime(MemoryNetwork())
    runtime.terminate_with(load_termination(config))
    with structlog.testing.capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(CertificateWatcher(runtime, at_once).run)
            await trio.sleep(5)
            yield Place(authority, config, runtime, log)
            nursery.cancel_scope.cancel()


async def test_a_new_certificate_is_for_the_next_handshake(place: Place, autojump_clock: MockClock) -> None:
    """Within two seconds, said in the log, the events and the metrics; the old context goes on."""
    before = place.termination
    place.authority.issue("behind.example")
    await trio.sleep(2)
    assert place.names == ("behind.example",)
    assert place.termination.context is not before.context
    tls = place.runtime.metrics.tls
    assert (tls.renewals, tls.renewal_failures, tls.is_broken) == (1, 0, False)
    assert tls.expiries == {place.config.cert: place.termination.certificates[str(place.config.cert)].expires}
    assert [event.cause for event in place.runtime.events.recent()] == ["certificates renewed"]
    assert [line["event"] for line in place.log] == ["certificates renewed"]


async def test_a_mere_touch_changes_nothing(place: Place, autojump_clock: MockClock) -> None:
    """Sessions can be resumed for as long as the context stands."""
    before = place.termination
    os.utime(str(place.config.cert))
    await trio.sleep(3)
    assert place.termination is before
    assert place.log == []


async def test_broken_files_change_nothing_and_are_told(place: Place, autojump_clock: MockClock) -> None:
    """Until they are whole again, the same as before or new."""
    before, tls = place.termination, place.runtime.metrics.tls
    old = place.write_key(b"nonsense")
    await trio.sleep(3)
    assert place.termination is before
    assert (tls.renewals, tls.renewal_failures, tls.is_broken) == (0, 1, True)
    (line,) = place.log
    assert line["log_level"] == "error"
    assert line["problem"] == f"server.tls.key: {place.key} holds no private key in PEM form"
    place.write_key(old)
    await trio.sleep(3)
    assert place.termination is before
    assert not tls.is_broken
    os.unlink(place.key)
    await trio.sleep(3)
    assert tls.is_broken
    place.authority.issue("behind.example")
    await trio.sleep(3)
    assert place.names == ("behind.example",)
    assert (tls.renewals, tls.renewal_failures, tls.is_broken) == (1, 2, False)


async def test_a_change_between_reading_and_watching_is_seen(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The first look compares with what is in use."""
    authority = Authority(tmp_path)
    pair = authority.issue("before.example")
    runtime = Runtime(MemoryNetwork())
    runtime.terminate_with(load_termination(ServerTls(pair.cert, pair.key)))
    authority.issue("behind.example")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(CertificateWatcher(runtime, at_once).run)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert runtime.metrics.tls.renewals == 1
