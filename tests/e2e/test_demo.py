"""`trio-gateway demo` in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.e2e.commands import COMMAND, environment, run
from trio_gateway.demo.checks import CHECKS


def test_the_check_shows_everything(tmp_path: Path) -> None:
    """Real sockets, seven showings, exit code 0."""
    done = run("demo", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    *shown, last = done.stdout.splitlines()
    assert [line[:4] for line in shown] == ["ok  "] * len(CHECKS)
    assert [title for title, line in zip(CHECKS, shown, strict=True) if title in line] == list(CHECKS)
    assert last.startswith(f"{len(CHECKS)} of {len(CHECKS)} shown in ")
    assert float(last.split()[-2]) < 5.0
    assert done.stderr == ""


def test_the_demo_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    """It prints where it serves, logs each request, and Ctrl-C is a clean end."""
    process = subprocess.Popen(
        [*COMMAND, "demo", "--bind", "127.0.0.1:0"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        base = first.split()[3]
        assert first == f"The gateway serves {base} in front of\n"
        assert httpx.get(f"{base}/users/7", trust_env=False).json()["target"] == "/api/7"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        stdout, stderr = process.communicate(timeout=10)
        assert time.monotonic() - began < 5.0
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert '"GET /orchestrator/users/7 HTTP/1.1" 200 ' in stdout
    assert stderr == ""
