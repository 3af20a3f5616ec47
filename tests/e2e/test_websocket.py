"""WebSockets between independent libraries, with a real gateway in the middle."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import trustme
from attrs import frozen
from trio_websocket import wrap_client_stream
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.e2e.started import GatewayProcess, gateway_process, until
from tests.support.faults import fault, through
from tests.support.websocket import Peer, shake_hands

pytestmark = through("lane")

HERE = Path(__file__).parent
CONFIG = """
server:
  bind: [{{address: "127.0.0.1:0", tls: false}}, "127.0.0.1:0"]
  tls: {{cert: {pem}, key: {pem}}}
shutdown: {{drain: 5s}}
health_check: {{enabled: false}}
pool: {{max_connections: 1000}}
websocket: {{max_message_size: 64MiB}}
endpoints:
  - {{url: "http://127.0.0.1:{plain}/", name: plain}}
  - {{url: "https://localhost:{secure}/", name: secure, tls: {{ca: {ca}}}}}
  - {{url: "http://127.0.0.1:{plain}/", name: narrow, websocket: {{max_message_size: 100KiB}}}}
"""


@frozen
class Servers:
    """Two servers by `websockets`, one of them over TLS, and a config that names both.

    The gateway's second listener is over TLS too; `ca` is who vouches for all.
    """

    plain: int
    secure: int
    config: str
    ca: str

    def dial(self, url: str, **how: Any) -> ClientConnection:
        """A client by `websockets`."""
        context = ssl.create_default_context(cafile=self.ca) if url.startswith("wss:") else None
        return connect(url, ssl=context, **how)


@contextmanager
def server(*args: str) -> Iterator[int]:
    """A WebSocket server as a process of its own; its port."""
    command = [sys.executable, str(HERE / "websockets_server.py"), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Started once for all tests here."""
    directory = tmp_path_factory.mktemp("servers")
    authority = trustme.CA()
    shown, ca = directory / "server.pem", directory / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(shown))
    authority.cert_pem.write_to_path(str(ca))
    with server() as plain, server(str(shown)) as secure:
        yield Servers(plain, secure, CONFIG.format(plain=plain, secure=secure, ca=ca, pem=shown), str(ca))


@asynccontextmanager
async def gateway(servers: Servers, tmp_path: Path, seconds: float = 60.0) -> AsyncIterator[GatewayProcess]:
    """A gateway before them."""
    async with gateway_process(tmp_path, servers.config, seconds=seconds) as process:
        yield process


def url(gateway: GatewayProcess, path: str) -> str:
    """Where a client finds an endpoint's path: the secure one's over TLS."""
    if not path.startswith("secure"):
        return f"ws://127.0.0.1:{gateway.port}/orchestrator/{path}"
    (ready,) = [record for record in gateway.log if record["event"] == "ready"]
    return f"wss://localhost:{ready['addresses'][1].rpartition(':')[2]}/orchestrator/{path}"


# ---- kosoku: the Autobahn cases ---------------------------------------------------------------------


async def played(servers: Servers, url: str, *patterns: str) -> tuple[int, set[str]]:
    """How many cases were played, and which failed."""
    command = [sys.executable, str(HERE / "conformance.py"), url, *patterns]
    environ = {**os.environ, "SSL_CERT_FILE": servers.ca}
    done = await trio.run_process(command, capture_stdout=True, stdin=subprocess.DEVNULL, env=environ)
    told = json.loads(done.stdout)
    return told["played"], set(told["failed"])


async def compare(
    servers: Servers, tmp_path: Path, cases: int, *patterns: str, seconds: float = 60.0
) -> None:
    """No case may fail through the gateway that passes without it; once without TLS, once on both sides."""
    count, anyway = await played(servers, f"ws://127.0.0.1:{servers.plain}/echo", *patterns)
    assert count == cases
    async with gateway(servers, tmp_path, seconds) as process:
        for name in ("plain", "secure"):
            count, failed = await played(servers, url(process, f"{name}/echo"), *patterns)
            assert count == cases
            assert failed <= anyway, name
        await until(lambda: len(process.lines()) >= 2 * cases)


@fault("W1")
async def test_no_case_fails_that_passes_without_the_gateway(servers: Servers, tmp_path: Path) -> None:
    """Framing, pings, fragments, UTF-8, closing: 247 cases; and one of each kind of compression."""
    compressed = [f"12.{n}.1" for n in range(1, 6)] + [f"13.{n}.1" for n in range(1, 8)]
    await compare(servers, tmp_path, 247 + 12, *(f"{n}.*" for n in (*range(1, 8), 10)), *compressed)


@pytest.mark.soak
async def test_no_large_case_fails_either(servers: Servers, tmp_path: Path) -> None:
    """Megabytes in one frame and in thousands, and compressed messages up to 128 KiB, a thousand each."""
    compressed = [f"{kind}.{n}" for kind in ("12.2", "13.3") for n in (4, 8, 12)]
    await compare(servers, tmp_path, 54 + len(compressed), "9.*", *compressed, seconds=3600)


# ---- websockets as the client -----------------------------------------------------------------------


async def test_compression_is_agreed_end_to_end(servers: Servers, tmp_path: Path) -> None:
    """The two libraries negotiate permessage-deflate, and what goes over the wire is small."""
    text = "the same words again and again, " * 3000

    def talk(url: str) -> None:
        with servers.dial(url, compression="deflate") as peer:
            assert [each.name for each in peer.protocol.extensions] == ["permessage-deflate"]
            for _ in range(3):
                peer.send(text)
                assert peer.recv() == text

    async with gateway(servers, tmp_path) as process:
        for name in ("plain", "secure"):
            await trio.to_thread.run_sync(talk, url(process, f"{name}/echo"))
        await until(lambda: len(process.lines()) == 2)
        for line in process.lines():
            assert (line["status"], line["reason"]) == (101, "completed")
            assert 100 < line["bytes_in"] < len(text)
            assert 100 < line["bytes_out"] < len(text)


@fault("W4")
async def test_subprotocols_are_chosen_by_the_backend(servers: Servers, tmp_path: Path) -> None:
    """One of the offered ones, or none."""

    def chosen(url: str, *offered: str) -> str | None:
        with connect(url, subprotocols=[Subprotocol(each) for each in offered] or None) as peer:
            return peer.subprotocol

    async with gateway(servers, tmp_path) as process:
        to = url(process, "plain/echo")
        assert await trio.to_thread.run_sync(chosen, to, "chat", "soap") == "soap"
        assert await trio.to_thread.run_sync(chosen, to) is None


@fault("W2")
async def test_codes_and_refusals_reach_the_client(servers: Servers, tmp_path: Path) -> None:
    """A backend's close code and reason, its refusal with fields and body, and our own 1009."""

    def code_of(url: str, message: bytes | None = None) -> tuple[int, str]:
        with servers.dial(url, compression=None) as peer:
            if message is not None:
                peer.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                peer.recv()
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code, closed.value.rcvd.reason

    def refusal(url: str) -> Any:
        with pytest.raises(InvalidStatus) as refused, servers.dial(url):
            pass
        return refused.value.response

    async with gateway(servers, tmp_path) as process:
        for name in ("plain", "secure"):
            for code in (1000, 1011, 4001):
                to = url(process, f"{name}/close/{code}")
                assert await trio.to_thread.run_sync(code_of, to) == (code, "as you wish")
            response = await trio.to_thread.run_sync(refusal, url(process, f"{name}/refuse"))
            assert (response.status_code, response.body) == (403, b"not you\n")
            assert response.headers["X-Reason"] == "asked for"
        to = url(process, "narrow/echo")
        assert await trio.to_thread.run_sync(code_of, to, bytes(100_000 + 2401)) == (1009, "message too big")
        response = await trio.to_thread.run_sync(refusal, url(process, "nobody"))
        assert (response.status_code, json.loads(response.body)["code"]) == (404, "route_not_found")


# ---- trio-websocket as the client -------------------------------------------------------------------


@asynccontextmanager
async def trio_client(
    process: GatewayProcess, path: str
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """An open WebSocket, over a stream that is closed whatever the library thinks of it."""
    stream = await trio.open_tcp_stream("127.0.0.1", process.port)
    async with stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "a", f"/orchestrator/{path}")
        nursery.cancel_scope.cancel()


async def test_trio_websocket_sees_the_same(servers: Servers, tmp_path: Path) -> None:
    """Messages, close codes, refusals and limits."""
    async with gateway(servers, tmp_path) as process:
        async with trio_client(process, "secure/echo") as peer:
            await peer.send_message(b"x" * 100_000)
            assert await peer.get_message() == b"x" * 100_000
            await peer.ping(b"are you there")
        async with trio_client(process, "plain/close/4001") as peer:
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await peer.get_message()
            assert (closed.value.reason.code, closed.value.reason.reason) == (4001, "as you wish")
        async with trio_client(process, "narrow/echo") as peer:
            await peer.send_message(bytes(200_000))
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await peer.get_message()
            assert closed.value.reason.code == 1009
        refusals: list[tuple[int, bytes]] = []
        try:
            async with trio_client(process, "plain/refuse"):
                pass
        except* trio_websocket.ConnectionRejected as group:
            refusals = [(each.status_code, each.body) for each in leaves(group)]
        assert set(refusals) == {(403, b"not you\n")}


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[Any]:
    """The errors inside, at any depth."""
    for error in group.exceptions:
        yield from leaves(error) if isinstance(error, BaseExceptionGroup) else (error,)


# ---- many at once -----------------------------------------------------------------------------------


async def test_two_hundred_open_sockets_live_through_a_reload(servers: Servers, tmp_path: Path) -> None:
    """Each of them says something before and behind it; then a stop tells them all."""
    async with gateway(servers, tmp_path) as process:
        names = ["plain"] * 100 + ["secure"] * 100
        peers = [
            await shake_hands(await process.connect(), target=f"/orchestrator/{name}/echo") for name in names
        ]
        await echo_on(peers, b"before")
        file = tmp_path / "gateway.yaml"
        added = "  - {url: 'http://127.0.0.1:1/', name: added}\n"
        file.write_text(file.read_text().replace("name: narrow", "name: other") + added)
        await process.event("config reloaded")
        await echo_on(peers, b"behind")
        process.terminate()
        for peer in peers:
            assert await peer.goodbye() == (1001, "shutting down")
            await peer.end()
        with trio.fail_after(5):
            assert await process.process.wait() == 0
        assert {line["reason"] for line in process.lines()} == {"shutting_down"}
        assert len(process.lines()) == 200


async def echo_on(peers: list[Peer], message: bytes) -> None:
    """Send it on each of them, then take it back from each."""
    for peer in peers:
        await peer.send(message)
    for peer in peers:
        assert await peer.message() == message
