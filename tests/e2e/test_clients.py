"""Clients that are none of our code, through a gateway process: each gets what the backend said."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
import trio

from tests.e2e.started import GatewayProcess, backend, config, gateway_process
from tests.support.upstream import Wire

_BODY = bytes(range(256)) * 300
_PATH = "/orchestrator/users/a%2Fb/c?q=%20&q=&&x"
_UPSTREAM_TARGET = b"/a%2Fb/c?q=%20&q=&&x"

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")


async def _telling(wire: Wire) -> None:
    """Answer with the body that came, and say in fields what was asked for."""
    while True:
        received = await wire.request()
        told = [b"X-Method: " + received.method, b"X-Target: " + received.target]
        status = b"404 Not Found" if received.target == b"/missing" else b"200 OK"
        cookies = [b"Set-Cookie: a=1", b"Set-Cookie: b=2"]
        if received.method == b"HEAD":
            await wire.send(
                b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 5", *told, *cookies, b"", b""])
            )
        else:
            await wire.reply(received.body or b"hello", *told, *cookies, status=status)


def _via_http_client(port: int) -> None:
    """Several requests on one kept connection, with Python's own client."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for method, body in (("GET", None), ("POST", _BODY), ("POST", _chunks()), ("HEAD", None), ("GET", None)):
        connection.request(method, _PATH, body, encode_chunked=body is not None and body is not _BODY)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status == 200
        assert reply.headers["X-Target"].encode() == _UPSTREAM_TARGET
        assert reply.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert content == (b"" if method == "HEAD" else _BODY if body else b"hello")
        assert reply.headers["Connection"] is None
    sock = connection.sock
    assert sock is not None, "the connection was not kept"
    connection.close()


def _chunks() -> Iterable[bytes]:
    return (_BODY[at : at + 1000] for at in range(0, len(_BODY), 1000))


async def test_http_client_is_served_on_one_connection(tmp_path: Path) -> None:
    """Python's http.client: GET, POST with a length, POST in chunks, HEAD, on one connection."""
    async with (
        backend(_telling) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        await trio.to_thread.run_sync(_via_http_client, gateway.port)
        assert upstream.connections == 1


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "http/2"])
async def test_httpx_is_served(http2: bool, tmp_path: Path) -> None:
    """httpx over either protocol: at once, with streamed uploads, and errors as the backend sent them."""
    limits = httpx.Limits(max_connections=8)
    async with (
        backend(_telling) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{gateway.port}",
            http1=not http2,
            http2=http2,
            limits=limits,
            trust_env=False,
        ) as client,
    ):
        reply = await client.post(_PATH, content=_BODY)
        assert (reply.status_code, reply.content) == (200, _BODY)
        assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]
        streamed = await client.post(_PATH, content=_stream())
        assert streamed.content == _BODY
        assert (await client.get("/orchestrator/users/missing")).status_code == 404
        assert (await client.get("/orchestrator/nobody")).json()["code"] == "route_not_found"
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(_check_get, client, number)


async def _stream() -> Iterable[bytes]:  # type: ignore[misc]  # an asynchronous iterable, as httpx wants it
    for chunk in _chunks():
        yield chunk


async def _check_get(client: httpx.AsyncClient, number: int) -> None:
    reply = await client.get(f"/orchestrator/users/{number}")
    assert reply.headers["x-target"] == f"/{number}"


async def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


@curl
async def test_curl_is_served(tmp_path: Path) -> None:
    """curl by each protocol: the body byte for byte, the fields, and an upload behind `Expect`."""
    upload = tmp_path / "upload"
    upload.write_bytes(_BODY * 20)
    async with (
        backend(_telling) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        url = f"http://127.0.0.1:{gateway.port}{_PATH}"
        for protocol in ("--http1.1", "--http2-prior-knowledge", "--http1.0"):
            options = ("-sS", "--max-time", "20", protocol, "-D", str(tmp_path / "head"))
            expect = "Expect:" if protocol == "--http1.0" else "Expect: 100-continue"
            got = await _run("curl", *options, url)
            posted = await _run("curl", *options, "-H", expect, "--data-binary", f"@{upload}", url)
            assert (got.returncode, got.stdout) == (0, b"hello"), got.stderr
            assert (posted.returncode, posted.stdout) == (0, _BODY * 20), posted.stderr
            head = (tmp_path / "head").read_bytes().lower()
            assert b"x-target: " + _UPSTREAM_TARGET.lower() in head


@h2load
async def test_h2load_sees_no_failure(tmp_path: Path) -> None:
    """1000 requests on one connection, in 100 streams at once, one by one, and by HTTP/1.1: all succeed."""
    async with (
        backend(_telling) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        for options in ("-m100", "-m1", "--h1"):
            done = await _run("h2load", "-n1000", "-c1", options, _url(gateway))
            assert done.returncode == 0
            counts = re.search(rb"requests: .*", done.stdout)
            assert counts, done.stdout
            assert b"1000 succeeded, 0 failed, 0 errored, 0 timeout" in counts[0]
            assert b"1000 2xx" in done.stdout


def _url(gateway: GatewayProcess) -> str:
    return f"http://127.0.0.1:{gateway.port}/orchestrator/users/x"


async def test_every_client_left_one_access_line_a_request(tmp_path: Path) -> None:
    """The access log has exactly one line for each request, as JSON, in the order of their ends."""
    async with (
        backend(_telling) as upstream,
        gateway_process(tmp_path, config(upstream.address[1])) as gateway,
    ):
        client = await gateway.client()
        for number in range(50):
            await client.get(f"/orchestrator/users/{number}")
        client.link.close()
    lines = gateway.lines()
    assert [line["target"] for line in lines] == [f"/orchestrator/users/{number}" for number in range(50)]
    assert {line["reason"] for line in lines} == {"completed"}
    assert len({json.dumps(line["request_id"]) for line in lines}) == 50
