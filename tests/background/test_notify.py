"""The word to a service manager."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from trio_gateway.background.notify import READY, notify, reloading


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_state_is_one_datagram(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a socket in the file system or to an abstract one."""
    monkeypatch.chdir(tmp_path)
    name = f"@trio-gateway-{os.getpid()}" if kind == "abstract" else "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name if kind == "abstract" else str(tmp_path / name))
        if len(os.environ["NOTIFY_SOCKET"]) > 107:
            pytest.skip("the temporary folder's path is too long for a socket")
        notify(READY)
        assert manager.recv(100, socket.MSG_DONTWAIT) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1", "/nowhere", "@nobody", "/" * 500])
def test_nobody_who_listens_is_no_error(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway without a manager, or with one that has gone, runs on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY)


def test_a_reload_says_when_it_began() -> None:
    """On the clock that systemd compares it with."""
    before = time.monotonic_ns() // 1000
    first, second = reloading().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
