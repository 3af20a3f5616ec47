"""Where a real gateway listens, what it tells its manager, and how it stops under load."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field

from tests.e2e.started import GatewayProcess, backend, config, gateway_process, until
from tests.support.client import Answer, RawClient
from tests.support.upstream import answering
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.listening import link_of

PATH = "/orchestrator/users/x"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@asynccontextmanager
async def started(
    tmp_path: Path, bind: str = "", *, shutdown: str = "{drain: 2s}", **options: object
) -> AsyncIterator[GatewayProcess]:
    """A gateway before a good backend, on a free port or where `bind` says."""
    async with backend(answering) as upstream:
        text = config(upstream.address[1], shutdown=shutdown)
        text = text.replace('["127.0.0.1:0"]', bind or '["127.0.0.1:0"]')
        async with gateway_process(tmp_path, text, **options) as gateway:  # type: ignore[arg-type]
            yield gateway


def visit(path: Path) -> Link:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))
    return link_of(sock)


async def asked(link: Link) -> Answer:
    try:
        return await RawClient(link).get(PATH)
    finally:
        link.close()


async def test_a_unix_socket_outlives_nothing(tmp_path: Path, folder: Path) -> None:
    """What kill -9 leaves is replaced by the next start, what is in use is not, and a stop leaves nothing."""
    path = folder / "gateway.sock"
    bind = f'["127.0.0.1:0", "unix:{path}"]'
    async with started(tmp_path, bind) as killed:
        assert (await asked(visit(path))).status == 200
        await until(killed.lines)
        assert killed.lines()[-1]["client"] == "unix:"
        killed.process.kill()
        await killed.process.wait()
    assert path.is_socket()
    async with started(tmp_path, bind) as gateway:
        assert (await asked(visit(path))).status == 200
        assert (await gateway.event("ready"))["addresses"][1] == f"unix:{path}"
        command = [sys.executable, "-m", "trio_gateway", "run", "-c", str(tmp_path / "gateway.yaml")]
        second = await trio.run_process(command, capture_stderr=True, check=False)
        assert second.returncode == 1
        assert f"unix:{path}: another process listens there: stop it".encode() in second.stderr
        assert (await asked(visit(path))).status == 200
    assert not path.exists()


async def test_a_socket_of_systemd_s_is_served(tmp_path: Path) -> None:
    """`fd://3` is the first that LISTEN_FDS passes."""
    program = (str(Path(__file__).with_name("passing.py")),)
    async with started(tmp_path, '["fd://3"]', program=program) as gateway:
        assert (await asked(await gateway.connect())).status == 200


async def test_a_service_manager_is_told(tmp_path: Path, folder: Path) -> None:
    """Ready when it listens, reloading while it reads its file, stopping at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.setblocking(False)
        listener = trio.socket.from_stdlib_socket(manager)
        async with started(tmp_path, shell=f"export NOTIFY_SOCKET={folder}/notify") as gateway:
            assert await listener.recv(100) == b"READY=1"
            gateway.process.send_signal(signal.SIGHUP)
            assert (await listener.recv(100)).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert await listener.recv(100) == b"READY=1"
            gateway.terminate()
            assert await listener.recv(100) == b"STOPPING=1"


# ---- stopping under load ------------------------------------------------------------------------------


@define
class Count:
    """Of requests: begun, answered, and failed with why; of connections that were refused."""

    begun: int = 0
    answered: int = 0
    refused: int = 0
    failed: list[str] = field(factory=list)


async def steady(gateway: GatewayProcess, count: Count) -> None:
    """A client that keeps its connection for as long as it may, until nobody lets it in."""
    client: RawClient | None = None
    while True:
        if client is None or not client.link.is_quiet():
            try:
                client = await gateway.client()
            except ConnectionRefusedError:
                count.refused += 1
                return
        count.begun += 1
        try:
            answer = await client.get(PATH)
        except (OSError, RuntimeError) as error:
            count.failed.append(repr(error))
            return
        count.answered += answer.status == 200
        if answer.values("connection") == ["close"]:
            client.link.close()
            client = None


async def test_no_request_that_was_begun_fails_when_the_gateway_stops(tmp_path: Path) -> None:
    """Steady clients through SIGTERM, `delay` and the end: each request has its answer."""
    count = Count()
    async with started(tmp_path, shutdown="{delay: 500ms, drain: 2s}") as gateway:
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(steady, gateway, count)
            await until(lambda: count.answered > 200)
            gateway.terminate()
            began = trio.current_time()
        assert await gateway.process.wait() == 0
        assert trio.current_time() - began < 2.5
    assert count.refused == 16
    assert count.failed == []
    assert count.answered == count.begun


def test_the_units_are_systemd_s(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing to say of the files in deploy/."""
    units = sorted((Path(__file__).parents[2] / "deploy").glob("trio-gateway.*"))
    assert [unit.suffix for unit in units] == [".service", ".socket"]
    for unit in units:
        text = unit.read_text().replace("/opt/trio-gateway/bin/trio-gateway", sys.executable)
        (tmp_path / unit.name).write_text(text)
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in units)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no systemd-analyze here")
    assert (done.returncode, done.stderr) == (0, "")
