"""Real processes: a gateway as its users start it, and a backend that is none of our code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attrs import define, field

_PATIENCE = 20.0
_OURS = ("HOST", "PORT", "RELOAD", "LOG_LEVEL", "CONFIG_PATH", "WORKERS", "MAX_REQUESTS", "TIMEOUT")

COMMAND = (sys.executable, "-m", "trio_gateway")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change a gateway's mind."""
    return {name: value for name, value in os.environ.items() if name not in _OURS} | more


@define(eq=False)
class GatewayProcess:
    """A running `trio-gateway run`, known by its log on standard error."""

    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(factory=list)

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log on to `event`. Raises AssertionError when it ends before that."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"no {event!r} in {self.log}")

    @property
    def addresses(self) -> list[str]:
        """What the ready line says: HOST:PORT."""
        (ready,) = [line for line in self.log if line["event"] == "ready"]
        return list(ready["addresses"])

    def end(self, *signals: int) -> int:
        """Send the signals and wait; the exit code."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(_PATIENCE)


@contextmanager
def gateway(*args: str, cwd: Path, **environ: str) -> Iterator[GatewayProcess]:
    """Start a gateway and wait until it is ready. Whatever happens, it is gone afterwards.

    Its standard output goes to `access.log` in `cwd`.
    """
    with (cwd / "access.log").open("a") as access_log:
        process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=cwd,
            env=environment(**environ),
            stdin=subprocess.DEVNULL,
            stdout=access_log,
            stderr=subprocess.PIPE,
            text=True,
        )
    watchdog = threading.Timer(_PATIENCE, process.kill)
    watchdog.start()
    try:
        running = GatewayProcess(process)
        running.wait_for("ready")
        yield running
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def run(*args: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


class Handler(BaseHTTPRequestHandler):
    """Tells what it received; under /held it waits until the test releases it."""

    protocol_version = "HTTP/1.1"
    held = threading.Event()
    released = threading.Event()

    def do_GET(self) -> None:
        """Answer a GET."""
        if self.path.startswith("/held"):
            Handler.held.set()
            Handler.released.wait(_PATIENCE)
        self._tell(b"")

    def do_POST(self) -> None:
        """Answer a POST with its body."""
        self._tell(self.rfile.read(int(self.headers["Content-Length"])))

    def _tell(self, body: bytes) -> None:
        told = {"method": self.command, "target": self.path, "body": body.decode()}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    """Takes it calmly when a gateway that was killed leaves a connection."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nobody reads it."""


@contextmanager
def backend() -> Iterator[str]:
    """A backend by Python's standard library; its url."""
    Handler.held.clear()
    Handler.released.clear()
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            Handler.released.set()
            server.shutdown()
            thread.join()
