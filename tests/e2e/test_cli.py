"""The command line as its users have it: real processes, real sockets, real signals."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.commands import GatewayProcess, Handler, backend, environment, gateway, run

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A config file before a running backend."""
    with backend() as url:
        path = tmp_path / "gateway.yaml"
        path.write_text(
            "server: {bind: ['127.0.0.1:0']}\n"
            f"endpoints: [{{url: '{url}/', name: users, methods: [GET, POST]}}]\n"
            "shutdown: {drain: 10s}\n"
        )
        yield path


@pytest.fixture
def running(config: Path, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway on a free port."""
    with gateway("run", "-c", str(config), cwd=tmp_path) as process:
        yield process


# ---- serving --------------------------------------------------------------------------------------


def test_http_client_gets_through(running: GatewayProcess) -> None:
    """The ready line's address serves Python's own client, twice on one connection."""
    host, _, port = running.addresses[0].rpartition(":")
    assert int(port) > 0
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        for number in (1, 2):
            connection.request("POST", f"/orchestrator/users/a%20b?n={number}", body=b"hello")
            reply = connection.getresponse()
            told = json.loads(reply.read())
            assert reply.status == 200
            assert reply.getheader("X-Endpoint-ID") == "users"
            assert told == {"method": "POST", "target": f"/a%20b?n={number}", "body": "hello"}
    finally:
        connection.close()


def test_httpx_gets_through(running: GatewayProcess) -> None:
    """A pooled client with a streamed body gets its answer, and a 404 as a problem document."""
    base = f"http://{running.addresses[0]}/orchestrator"
    with httpx.Client(trust_env=False, timeout=10) as client:
        told = client.post(f"{base}/users/x", content=b"piece").json()
        assert told["body"] == "piece"
        missing = client.get(f"{base}/nobody")
    assert missing.status_code == 404
    assert missing.headers["Content-Type"] == "application/problem+json"
    assert missing.json()["code"] == "route_not_found"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_through(running: GatewayProcess) -> None:
    """What the documentation tells people to paste works."""
    url = f"http://{running.addresses[0]}/orchestrator/users/7?a=1"
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "10", url],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert json.loads(done.stdout)["target"] == "/7?a=1"


def test_the_access_log_is_on_standard_output(running: GatewayProcess, tmp_path: Path) -> None:
    """A line for each request there, and nothing else; the log itself is on standard error."""
    for path in ("users/1", "nobody"):
        httpx.get(f"http://{running.addresses[0]}/orchestrator/{path}", trust_env=False)
    assert running.end(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [(line["target"], line["status"], line["reason"]) for line in lines] == [
        ("/orchestrator/users/1", 200, "completed"),
        ("/orchestrator/nobody", 404, "route_not_found"),
    ]


def test_several_addresses_are_all_named(config: Path, tmp_path: Path) -> None:
    """One ready line tells every address with its real port, in the order of the command line."""
    binds = ("--bind", "127.0.0.1:0", "--bind", "127.0.0.2:0")
    with gateway("-c", str(config), *binds, cwd=tmp_path) as process:
        assert [address.rpartition(":")[0] for address in process.addresses] == ["127.0.0.1", "127.0.0.2"]
        for address in process.addresses:
            assert httpx.get(f"http://{address}/orchestrator/users", trust_env=False).status_code == 200


def test_the_environment_names_file_and_address(config: Path, tmp_path: Path) -> None:
    """A container is configured without a command line."""
    environ = {"CONFIG_PATH": str(config), "HOST": "127.0.0.2", "PORT": "0", "LOG_LEVEL": "INFO"}
    with gateway(cwd=tmp_path, **environ) as process:
        assert process.addresses[0].startswith("127.0.0.2:")


def test_without_any_config_it_starts_and_serves_no_endpoint(tmp_path: Path) -> None:
    """The first start on an empty machine succeeds; what it wrote can be edited."""
    with gateway("--host", "127.0.0.1", "--port", "0", cwd=tmp_path) as process:
        url = f"http://{process.addresses[0]}/orchestrator/users"
        assert httpx.get(url, trust_env=False).status_code == 404
    assert (tmp_path / "config" / "config.yaml").is_file()


# ---- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_an_idle_gateway_at_once(running: GatewayProcess, number: int) -> None:
    """Nothing in flight: no grace is waited for, and the exit code says clean."""
    with httpx.Client(trust_env=False) as client:
        client.get(f"http://{running.addresses[0]}/orchestrator/users")
        began = time.monotonic()
        assert running.end(number) == 0
    assert time.monotonic() - began < 5.0


def held_request(running: GatewayProcess, answers: list[object]) -> threading.Thread:
    """A request that the backend holds; its status, or what became of it, goes to `answers`."""

    def ask() -> None:
        try:
            url = f"http://{running.addresses[0]}/orchestrator/users/held"
            answers.append(httpx.get(url, trust_env=False, timeout=20).status_code)
        except httpx.HTTPError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert Handler.held.wait(10)
    return thread


def test_a_request_in_flight_is_finished_first(running: GatewayProcess) -> None:
    """A draining gateway takes no new connection and lets the running request have its answer."""
    answers: list[object] = []
    asking = held_request(running, answers)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait_for("draining")["in_flight"] == 1
    host, _, port = running.addresses[0].rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)
    Handler.released.set()
    asking.join()
    assert answers == [200]
    assert running.end() == 0


def test_a_second_signal_ends_it_at_once(running: GatewayProcess) -> None:
    """Who says it twice does not wait for the grace of ten seconds."""
    asking = held_request(running, [])
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("draining")
    began = time.monotonic()
    assert running.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5.0
    Handler.released.set()
    asking.join()


def test_a_killed_gateway_leaves_nothing_locked(config: Path, tmp_path: Path) -> None:
    """After kill -9 with a connection open, the same command line starts again on the same port."""
    with gateway("-c", str(config), cwd=tmp_path) as process:
        host, _, port = process.addresses[0].rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /orchestrator/users HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(9) == b"HTTP/1.1 "
            assert process.end(signal.SIGKILL) == -signal.SIGKILL
            with gateway("-c", str(config), "--port", port, cwd=tmp_path) as again:
                assert again.addresses == process.addresses
                url = f"http://{again.addresses[0]}/orchestrator/users"
                assert httpx.get(url, trust_env=False).status_code == 200


# ---- refusals -------------------------------------------------------------------------------------


def test_a_taken_port_is_one_line_and_exit_code_1(config: Path, tmp_path: Path) -> None:
    """The operator reads which address and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("-c", str(config), "--bind", bind, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["on"] == [bind]
    assert json.loads(line)["error"] == f"{bind}: Address already in use"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-c", "bad.yaml"), "bad.yaml:1:13: endpoints[0].url"),
        (("run", "--validate-only", "-c", "bad.yaml"), "bad.yaml:1:13: endpoints[0].url"),
        (("check", "bad.yaml"), "bad.yaml:1:13: endpoints[0].url"),
        (("-c", "gone.yaml"), "gone.yaml: cannot be read: No such file or directory"),
        (("--prot", "80"), "No such option"),
        (("srve",), "No such command 'srve'"),
    ],
)
def test_bad_usage_and_bad_config_end_with_2(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    """Scripts can tell a mistake of theirs from a failure of the gateway's."""
    (tmp_path / "bad.yaml").write_text("endpoints: [{name: nobody}]\n")
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    """`trio-gateway` stands beside the interpreter and answers."""
    command = Path(sys.executable).with_name("trio-gateway")
    done = subprocess.run([command, "version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == run("version", cwd=tmp_path).stdout


@pytest.mark.alone
@pytest.mark.parametrize("verb", ["version", "init", "check"])
def test_a_verb_that_does_not_serve_is_imported_within_150_ms(verb: str) -> None:
    """CPU time inside the process, from bytecode as pip leaves it; the best of thirty tries counts.

    A fixed piece of work beside it tells how much slower than the budget's the machine is.
    """
    program = (
        "import time; began = time.process_time()\n"
        f"import trio_gateway.cli.{verb}\n"
        "took = time.process_time() - began\n"
        "began = time.process_time(); names = {}\n"
        "for n in range(100_000): names[n & 1023] = str(n)\n"
        "print(took / max(1, (time.process_time() - began) / 0.02))"
    )
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    best = 1.0
    for _ in range(30):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
        best = min(best, float(done.stdout))
        if best < 0.15:
            break
    assert best < 0.15
