"""The gateway as a process of its own, the backend in the test's, and what the kernel knows of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from tests.support.client import RawClient
from tests.support.h2client import H2Client, open_h2
from tests.support.upstream import Script, Upstream
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import RealNetwork

NETWORK = RealNetwork()
LOOPBACK = "127.0.0.1"
_START = 30.0  # seconds, on a busy machine
_STOP = 10.0
_LONGEST = 60.0
_LAST_WORDS = 1.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@define(eq=False)
class GatewayProcess:
    """A running gateway. `log` holds the records of its standard error, oldest first."""

    process: trio.Process
    access_log: Path
    log: list[dict[str, Any]] = field(factory=list)
    port: int = 0
    ready: trio.Event = field(factory=trio.Event)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def connect(self) -> Link:
        """A new connection to it."""
        return await NETWORK.connect(LOOPBACK, self.port)

    async def client(self) -> RawClient:
        """A new HTTP/1.1 client."""
        return RawClient(await self.connect())

    @asynccontextmanager
    async def h2(self, **options: Any) -> AsyncIterator[H2Client]:
        """A new HTTP/2 client, by prior knowledge."""
        async with open_h2(await self.connect(), **options) as client:
            yield client

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for a record of that name."""
        await until(lambda: any(record["event"] == name for record in self.log))
        return next(record for record in self.log if record["event"] == name)

    # ---- what /proc says

    def resident(self) -> int:
        """Resident bytes now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def forget_peak(self) -> None:
        """Let `peak` begin anew (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The largest resident size since `forget_peak`, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def descriptors(self) -> int:
        """How many descriptors are open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def read_log(self) -> None:
        """Read standard error to its end; `ready` is set when the gateway says so."""
        assert self.process.stderr is not None
        rest = b""
        async for data in self.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._note(line)

    def _note(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            record = {"event": line.decode(errors="replace"), "raw": True}
        self.log.append(record)
        if record["event"] == "ready":
            self.port = int(record["addresses"][0].rpartition(":")[2])
            self.ready.set()

    def check_log(self) -> None:
        """Nothing crashed: no traceback stands in the log."""
        bad = [record for record in self.log if "exception" in record or "raw" in record]
        assert not bad, bad


@asynccontextmanager
async def gateway_process(
    directory: Path,
    config: str,
    *,
    stdout: int | None = None,
    shell: str = "",
    seconds: float = _LONGEST,
    program: Sequence[str] = ("-m", "trio_gateway", "run"),
) -> AsyncIterator[GatewayProcess]:
    """`python -m trio_gateway run` on `config`, ready; ended with the block.

    Its standard output goes to a file in `directory`, or to `stdout`. Whatever the test does to it,
    it must not have logged a traceback, and unless the test ended it, SIGTERM must end it with code 0.
    After `seconds` the test has failed. `shell` is run before it, in the process that it becomes;
    `program` is another Python program to be started the same way.
    """
    file = directory / "gateway.yaml"
    file.write_text(config)
    access_log = directory / "access.log"
    command = [sys.executable, *program, "--config", str(file), "--log-format", "json"]
    with access_log.open("ab") as output:
        process = await trio.lowlevel.open_process(
            ["sh", "-c", f'{shell or ":"}; exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
    gateway = GatewayProcess(process, access_log)
    try:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + seconds
            nursery.start_soon(gateway.read_log)
            with trio.move_on_after(_START):
                await gateway.ready.wait()
            assert gateway.port, f"not ready: {gateway.log}"
            yield gateway
            await _stop(gateway)
    except BaseException as error:
        with trio.move_on_after(_LAST_WORDS, shield=True):  # one that crashed closes its listeners first
            await process.wait()
        error.add_note(f"the gateway's exit code: {process.poll()}, and its last words: {gateway.log[-3:]}")
        raise
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    assert not nursery.cancel_scope.cancelled_caught, f"not done within {seconds:g} s"
    gateway.check_log()


async def _stop(gateway: GatewayProcess) -> None:
    if gateway.process.poll() is None:
        gateway.terminate()
        with trio.move_on_after(_STOP):
            await gateway.process.wait()
        assert gateway.process.poll() == 0, gateway.log


@asynccontextmanager
async def backend(script: Script, network: Any = NETWORK) -> AsyncIterator[Upstream]:
    """A scripted backend on a real loopback socket; its port is `address[1]`."""
    upstream = Upstream(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.serve, network, LOOPBACK, 0)
        yield upstream
        nursery.cancel_scope.cancel()


def config(
    port: int, *, server: str = "", endpoint: str = "", more: str = "", shutdown: str = "{drain: 2s}"
) -> str:
    """A config with one endpoint, `users`, before a loopback backend; HTTP/2 is on."""
    return f"""
server: {{bind: ["127.0.0.1:0"], h2c: true{server and ", " + server}}}
shutdown: {shutdown}
health_check: {{enabled: false}}
{more}
endpoints:
  - url: "http://127.0.0.1:{port}/"
    name: users
    methods: [GET, POST, PUT, DELETE, PATCH, OPTIONS]
    {endpoint}
"""


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Look every few milliseconds until `condition()` holds: what the kernel or a gauge says has no event."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.002)


def queued(local: int, remote: int) -> tuple[int, int]:
    """Bytes in the kernel for one end of a loopback connection, by ports: unacknowledged, unread."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = tuple(int(fields[at].rpartition(":")[2], 16) for at in (1, 2))
        if ports == (local, remote):
            unacknowledged, unread = (int(size, 16) for size in fields[4].split(":"))
            return unacknowledged, unread
    raise LookupError(f"no connection from port {local} to {remote}")
