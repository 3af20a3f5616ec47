"""What every operator's verb does when there is no answer, and how it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.operated import CONFIG, operated

VERBS = [
    ("status",),
    ("endpoints",),
    ("routes",),
    ("reload",),
    ("breaker", "reset", "users"),
    ("breaker", "trip", "users"),
    ("probe", "users"),
    ("enable", "users"),
    ("disable", "users"),
]
NOBODY = "http://127.0.0.1:1"


def one_line(text: str) -> str:
    assert len(text.splitlines()) == 1, text
    assert text.startswith("Error: ")
    return text.removeprefix("Error: ").strip()


# ---- no gateway -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_gateway_that_is_not_there_is_one_clear_line(call: Call, verb: tuple[str, ...]) -> None:
    """From every verb, and the exit code is 1."""
    result = call(*verb, "--url", NOBODY, "--token", "t", "--json")
    assert result.exit_code == 1
    assert one_line(result.stderr) == f"no gateway answers at {NOBODY}: Connection refused"
    assert result.stdout == ""


def note(*addresses: str) -> None:
    Path("state/addresses").write_text("\n".join(addresses))


async def test_each_address_is_tried(call: Call) -> None:
    """A gateway answers where it can be reached from here."""
    async with operated(call) as found:
        note("127.0.0.1:1", found.url.removeprefix("http://"))
        told = await found.told("status")
        note("127.0.0.1:1", "127.0.0.1:2")
        result = await found.run("status")
    assert told["url"] == found.url
    assert one_line(result.stderr).startswith(
        "no gateway answers at http://127.0.0.1:1 or http://127.0.0.1:2: "
    )


# ---- a refusal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
async def test_a_refused_token_is_one_clear_line(call: Call, verb: tuple[str, ...]) -> None:
    """From every verb, and the token is not in it."""
    async with operated(call) as found:
        result = await found.run(*verb, TRIO_GATEWAY_TOKEN="not-one")
    assert result.exit_code == 1
    assert one_line(result.stderr) == f"{found.url}: refused: the token is not valid"


async def test_a_scope_that_is_too_small_is_named(call: Call) -> None:
    """It says which one is needed."""
    async with operated(call) as found:
        token = (await found.run("token", "--scope", "read")).stdout.strip()
        fine = await found.run("status", "--token", token)
        result = await found.run("disable", "users", "--token", token)
    assert fine.exit_code == 0
    assert one_line(result.stderr) == f"{found.url}: refused: This operation needs the scope `operate`"


async def test_why_there_was_no_token_is_said(call: Call) -> None:
    """Who may not read the secret learns what to do."""
    async with operated(call) as found:
        await found.run("status")
        os.unlink("state/secret")
        result = await found.run("status")
    line = one_line(result.stderr)
    assert "refused: A bearer token is required (state: there is no secret: " in line
    assert line.endswith("or give --token)")


async def test_without_auth_no_token_is_needed(call: Call) -> None:
    """Nor sent."""
    async with operated(call, CONFIG + "admin: {{auth: none}}\n") as found:
        assert await found.told("status")


async def test_a_listener_of_its_own_is_found(call: Call) -> None:
    """On the proxy's there is nothing of it, which is told."""
    async with operated(call, CONFIG + "admin: {{bind: '127.0.0.1:0'}}\n") as found:
        told = await found.told("status")
        result = await found.run("status", "--url", found.url)
    assert told["url"] != found.url
    assert one_line(result.stderr) == f"{found.url} is no management API: it answered 404"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore's, of a socket
async def test_a_unix_socket_is_found(call: Call) -> None:
    """By what the gateway noted, and by its name on the command line."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own are too long for a socket
        place = f"unix:{folder}/admin.sock"
        async with operated(call, CONFIG + f"admin: {{{{bind: '{place}'}}}}\n") as found:
            assert (await found.told("status"))["url"] == place
            token = (await found.run("token")).stdout.strip()
            result = await found.call("status", "--url", place, "--token", token)
            assert result.exit_code == 0, result.output
        result = await found.run("status", "--url", place, "--token", token)
    assert one_line(result.stderr).startswith(f"no gateway answers at {place}: ")


# ---- a stranger -------------------------------------------------------------------------------------


@contextmanager
def stranger(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything with the same; its url, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>", "is no management API: it answered 200"),
        (200, b"[]", "is no management API: it answered 200"),
        (200, b"{}", "is no management API of this version"),
        (200, b'{"endpoints": 1, "total_count": 0}', "is no management API of this version"),
        (200, b'{"endpoints": [1], "total_count": 0}', "is no management API of this version"),
        (500, b"", "is no management API: it answered 500"),
        (422, b'{"detail": [{"msg": "a"}, {"msg": "b"}]}', ": a; b"),
        (422, b'{"detail": [1]}', "is no management API of this version"),
        (507, b'{"detail": "\\u001b[2Jfull"}', ": \\x1b[2Jfull"),
    ],
)
def test_another_server_is_told_from_a_gateway(call: Call, status: int, body: bytes, told: str) -> None:
    """No traceback, no control characters: one line."""
    with stranger(status, body) as (url, _):
        result = call("endpoints", "--url", url, "--token", "t")
    assert result.exit_code == 1
    line = one_line(result.stderr)
    assert line.removeprefix(url).strip() == told
    assert line.startswith(url)


def test_a_redirect_is_not_followed(call: Call) -> None:
    """A token goes where the operator sends it, and nowhere else."""
    with stranger(200, b"{}") as (other, asked), stranger(307, b"", Location=f"{other}/x") as (url, _):
        result = call("endpoints", "--url", url, "--token", "t")
    assert one_line(result.stderr) == f"{url} is no management API: it answered 307"
    assert asked == []


def test_a_proxy_of_the_environment_is_not_used(call: Call) -> None:
    """Nor told the token."""
    document = json.dumps({"endpoints": [], "total_count": 0}).encode()
    with stranger(200, document) as (proxy, asked), stranger(200, document) as (url, direct):
        result = call(
            "endpoints", "--url", f"{url}/below/", "--token", "t", HTTP_PROXY=proxy, ALL_PROXY=proxy
        )
    assert result.exit_code == 0
    assert (asked, direct) == ([], ["/below/registry/endpoints?limit=1000"])


# ---- usage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("status", "--url", "127.0.0.1:8000"),
        ("status", "--url", ""),
        ("status", "--url", "ftp://x"),
        ("status", "--url", "http://x/?a=b"),
        ("status", "--url", "http://u:p@x/"),
        ("status", "--token", ""),
        ("status", "--token", "two words"),
        ("status", "--token", "ü"),
        ("status", "users"),
        ("endpoints", "--colour"),
        ("probe",),
        ("enable", "a/../b"),
        ("disable", "a", "b"),
    ],
)
def test_bad_usage_ends_with_two(call: Call, args: tuple[str, ...]) -> None:
    """And nobody is asked."""
    assert call(*args).exit_code == 2


def test_an_empty_variable_is_no_token(call: Call) -> None:
    """It is as if it were not set."""
    result = call("status", "--url", NOBODY, TRIO_GATEWAY_TOKEN="")
    assert "no gateway answers" in one_line(result.stderr)


@pytest.mark.parametrize(
    "verb", ["status", "endpoints", "routes", "reload", "breaker", "probe", "enable", "disable"]
)
def test_help_needs_no_http_client(verb: str) -> None:
    """A verb is imported for its help; what talks is imported when it talks."""
    heavy = {"trio", "httpx", "structlog", "quart"}
    program = f"import sys, trio_gateway.cli.{verb}; print(*(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
