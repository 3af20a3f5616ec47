"""Processes of our own: started on one core in a session of their own, accounted from /proc, ended by group.

The session is what ties a server's workers together: the CPU of every live process in it is summed, with that
of the children it has reaped, so nothing is counted twice and nothing that it forked is missed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

TICK = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0


class StartError(Exception):
    """A server did not come up; the text says why, with the end of what it printed."""


def plain_environment() -> dict[str, str]:
    """Our environment without what would tune a Python peer unseen (PYTHONUNBUFFERED and the like)."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_"))}


@frozen
class Launch:
    """How to start one server: its arguments, environment, and the file that its access log grows in."""

    argv: Sequence[str]
    access_log: Path
    env: Mapping[str, str] = field(factory=plain_environment)


@frozen
class Server:
    """A running server and what can be asked about it."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    access_log: Path

    def cpu(self) -> float:
        """User and system seconds spent so far by all its processes and threads (resolution: one tick)."""
        return sum(_ticks(stat, self.process.pid) for stat in _stats()) / TICK

    def resident(self) -> int:
        """Resident bytes of all its processes now (shared pages count once in each)."""
        pages = sum(int(stat[21]) for stat in _stats() if int(stat[3]) == self.process.pid)
        return pages * os.sysconf("SC_PAGE_SIZE")


def _stats() -> Iterator[list[str]]:
    """The fields of proc_pid_stat(5) after the name, of every process: [0] is state, [3] session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue


def _ticks(stat: list[str], session: int) -> int:
    return sum(map(int, stat[11:15])) if int(stat[3]) == session else 0


def free_ports(count: int) -> list[int]:
    """So many loopback ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@contextmanager
def serving(launch: Launch, port: int, core: int, directory: Path, tls_port: int = 0) -> Iterator[Server]:
    """Run the server on one core until the block ends; it accepts on `port` when the block begins.

    It prints into output.log and errors.log of the directory. StartError when it does not come up.
    """
    with (directory / "output.log").open("ab") as output, (directory / "errors.log").open("ab") as errors:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *launch.argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(launch.env),
            cwd=directory,
            start_new_session=True,
        )
    try:
        _await_port(process, port, directory)
        yield Server(process, port, tls_port, launch.access_log)
    finally:
        _end(process)


def _await_port(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"ended with {process.returncode}: {_last_words(directory)}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StartError(f"did not accept on port {port} within {START_TIMEOUT:.0f} s: {_last_words(directory)}")


def _last_words(directory: Path) -> str:
    paths = [directory / name for name in ("output.log", "error.log", "errors.log")]
    texts = [path.read_text(errors="replace") for path in paths if path.exists()]
    return " ".join("".join(texts).split())[-400:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group that we made; SIGKILL when it is still there after STOP_TIMEOUT."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
