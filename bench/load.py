"""One measurement: a checked request, a warm-up, wrk between two readings of /proc, a checked request again.

The CPU is read after a short settling time, so that a gateway which logs from a thread pays for its lines. A
sample that proves nothing says so in `refused` and is left out: a wrong body, an error that wrk saw, replies
shorter than the body, an access log that is not JSON or lacks lines.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from exchanges import Kind, Row
from process import Server

SCRIPT = Path(__file__).resolve().with_name("wrk.lua")
SETTLE = 0.3
LATENCY_CAP = "20s"  # wrk counts a slower reply as an error
FULL_TURNS = (
    4  # replies a client at least: work begun but not answered when wrk stops stays small beside them
)
LOGGED_SHARE = 0.99  # of the replies; what is lost below this was not logged but dropped


class RefusedError(Exception):
    """The sample does not count; the text says why."""


@frozen
class Sample:
    """One peer in one row once. CPU in microseconds a request, latencies in seconds, `busy` in cores."""

    cpu_us: float = 0.0
    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    busy: float = 0.0
    requests: int = 0
    resident: int = 0
    refused: str | None = None

    def __str__(self) -> str:
        return self.refused or f"{self.cpu_us:.1f} us/request, {self.rate:.0f}/s, busy {self.busy:.0%}"


@frozen
class Wrk:
    """The load generator: its core, and how long it warms up and measures, in seconds."""

    core: int
    seconds: int
    warmup: int

    def run(self, server: Server, row: Row, seconds: int) -> dict[str, Any]:
        """Load the server as the row says; the counters that wrk.lua prints."""
        kind = row.kind
        headers = [part for name, value in kind.headers for part in ("-H", f"{name}: {value}")]
        argv = [
            "taskset",
            "-c",
            str(self.core),
            "wrk",
            "-t1",
            f"-c{row.clients}",
            f"-d{seconds}",
        ]
        argv += ["--timeout", LATENCY_CAP, "-s", str(SCRIPT), *headers, url(server, kind), "--", kind.method]
        done = subprocess.run(
            [*argv, str(kind.body_bytes)], capture_output=True, text=True, check=False, timeout=seconds + 30
        )
        for line in done.stdout.splitlines():
            if line.startswith("RESULT "):
                counters: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
                return counters
        raise RefusedError(f"wrk failed: {(done.stderr or done.stdout).strip()[-200:]}")


def url(server: Server, kind: Kind) -> str:
    """Where the clients of this kind call the server."""
    if kind.tls:
        return f"https://127.0.0.1:{server.tls_port}{kind.target}"
    return f"http://127.0.0.1:{server.port}{kind.target}"


def measure(server: Server, row: Row, wrk: Wrk) -> Sample:
    """Measure the server in this row; a Sample with `refused` set when it must not count."""
    try:
        check_reply(server, row.kind)
        wrk.run(server, row, wrk.warmup)
        time.sleep(SETTLE)
        os.truncate(server.access_log, 0)
        sample = _loaded(server, row, wrk)
        _check_log(server.access_log, sample.requests)
        check_reply(server, row.kind)
    except (RefusedError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        return Sample(refused=f"{type(error).__name__}: {error}".removeprefix("RefusedError: "))
    return sample


def _loaded(server: Server, row: Row, wrk: Wrk) -> Sample:
    before = server.cpu()
    counters = wrk.run(server, row, wrk.seconds)
    time.sleep(SETTLE)
    spent = server.cpu() - before
    _check_counters(counters, row.clients, len(row.kind.expected))
    requests, seconds = counters["requests"], counters["seconds"]
    sample = Sample(requests=requests, rate=requests / seconds, p50=counters["p50"], p99=counters["p99"])
    return evolve(sample, cpu_us=spent / requests * 1e6, busy=spent / seconds, resident=server.resident())


def _check_counters(counters: dict[str, Any], clients: int, body_bytes: int) -> None:
    errors = {
        name: counters[name] for name in ("connect", "read", "write", "timeout", "status") if counters[name]
    }
    if errors:
        raise RefusedError(f"wrk saw errors: {errors}")
    if counters["requests"] < FULL_TURNS * clients:
        raise RefusedError(
            f"{counters['requests']} replies to {clients} clients are too few: use more --seconds"
        )
    if counters["bytes"] < counters["requests"] * body_bytes:
        raise RefusedError("replies were shorter than the expected body")


def check_reply(server: Server, kind: Kind) -> None:
    """One real request outside wrk: status 200 and the expected body to the byte, or RefusedError."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    if kind.tls:  # nobody on the way could be somebody else
        unverified = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", server.tls_port, timeout=20, context=unverified)
    try:
        body = b"x" * kind.body_bytes if kind.body_bytes else None
        connection.request(kind.method, kind.target, body, dict(kind.headers))
        reply = connection.getresponse()
        content = reply.read()
    finally:
        connection.close()
    if reply.status != 200 or content != kind.expected:
        raise RefusedError(f"not the expected reply: {reply.status} {content[:80]!r}")


def _check_log(path: Path, requests: int) -> None:
    """The log grew by a line a request, and its lines are JSON objects."""
    lines = path.read_bytes().splitlines()
    if len(lines) < requests * LOGGED_SHARE:
        raise RefusedError(f"access log has {len(lines)} lines for {requests} requests")
    try:
        if not isinstance(json.loads(lines[len(lines) // 2]), dict):
            raise RefusedError("access log lines are not JSON objects")
    except ValueError:
        raise RefusedError(f"access log line is not JSON: {lines[len(lines) // 2][:80]!r}") from None
