"""What a WebSocket message costs the gateway, and what one costs a trio-websocket echo server.

    .venv/bin/python bench/websocket.py [--clients 16] [--seconds 3] [--repeat 5] [--size 1024]

Each client sends a message, waits for its echo and sends the next. Through the gateway an echo is two relayed
messages, one each way, so its CPU is divided by two; a trio-websocket server handles one, receiving it and
sending it back. Load and backend (plain sockets that know nothing but these frames) run on the first core,
the gateway or the echo server on the last; CPU is user and system time from /proc. The two are measured in
turns. The claim: a relayed message of 1 KiB costs at most what the echo server spends on one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import trio
import trio_websocket
from process import Launch, Server, free_ports, serving

from trio_gateway.wire.handshake import accept_of

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /orchestrator/bench HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
CONFIG = """
server: {{bind: ["127.0.0.1:{port}"]}}
health_check: {{enabled: false}}
endpoints: [{{url: "http://127.0.0.1:{backend}/", name: bench}}]
"""


def frame(size: int, *, masked: bool) -> bytes:
    """A binary frame of zeros; a mask of zeros leaves them as they are."""
    bit = 0x80 if masked else 0
    head = bytes((0x82, bit | size)) if size < 126 else bytes((0x82, bit | 126)) + size.to_bytes(2, "big")
    return head + (bytes(4) if masked else b"") + bytes(size)


# ---- the backend, the load and the server to compare with -------------------------------------------


class Backend(asyncio.Protocol):
    """Answers the handshake, and each whole frame with one of the same size."""

    def __init__(self, size: int) -> None:
        self.asked, self.answer = len(frame(size, masked=True)), frame(size, masked=False)
        self.open, self.waiting, self.head = False, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self.open:
            self.head += data
            if not self.head.endswith(b"\r\n\r\n"):
                return
            self.open = True
            self.transport.write(SWITCH + b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n\r\n")
            return
        whole, self.waiting = divmod(self.waiting + len(data), self.asked)
        if whole:
            self.transport.write(self.answer * whole)


async def serve_backend(port: int, size: int) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(size), "127.0.0.1", port)
    await server.serve_forever()


async def serve_echo(port: int) -> None:
    """The echo server of trio-websocket's own documentation."""

    async def echo(request: trio_websocket.WebSocketRequest) -> None:
        peer = await request.accept()
        try:
            while True:
                await peer.send_message(await peer.get_message())
        except trio_websocket.ConnectionClosed:
            return

    await trio_websocket.serve_websocket(echo, "127.0.0.1", port, ssl_context=None)


async def load(port: int, clients: int, seconds: float, size: int) -> int:
    """Echoes that came back, whole and as they were."""
    said, heard, done = frame(size, masked=True), frame(size, masked=False), 0

    async def talk() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"no WebSocket: {head!r}")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            writer.write(said)
            if await reader.readexactly(len(heard)) != heard:
                raise SystemExit("another message came back")
            done += 1
        writer.write(bytes((0x88, 0x80, 0, 0, 0, 0)))
        await reader.read()
        writer.close()

    await asyncio.gather(*(talk() for _ in range(clients)))
    return done


# ---- measuring --------------------------------------------------------------------------------------


def launch(directory: Path, *argv: str) -> Launch:
    """One of our own processes."""
    return Launch([sys.executable, *argv], directory / "access.log")


@contextmanager
def subjects(asked: argparse.Namespace, directory: Path) -> Iterator[dict[str, Server]]:
    """The gateway and the echo server on the last core; the gateway's backend on the first."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    backend, gateway, echo = free_ports(3)
    file = directory / "gateway.yaml"
    file.write_text(CONFIG.format(port=gateway, backend=backend))
    here, run = str(Path(__file__).resolve()), ("-m", "trio_gateway", "run", "--config", str(file))
    with ExitStack() as stack:

        def start(port: int, core: int, *argv: str) -> Server:
            return stack.enter_context(serving(launch(directory, *argv), port, core, directory))

        start(backend, first, here, "--serve", "backend", "--port", str(backend), "--size", str(asked.size))
        yield {
            "gateway": start(gateway, last, *run),
            "echo": start(echo, last, here, "--serve", "echo", "--port", str(echo)),
        }


def cost(server: Server, asked: argparse.Namespace) -> tuple[float, float]:
    """Microseconds of the server's CPU for each echo, and echoes a second."""
    options = ("--clients", str(asked.clients), "--seconds", str(asked.seconds), "--size", str(asked.size))
    command = [sys.executable, __file__, "--serve", "load", "--port", str(server.port), *options]
    before = server.cpu()
    done = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    time.sleep(0.3)
    return 1e6 * (server.cpu() - before) / done, done / asked.seconds


def measure(asked: argparse.Namespace) -> bool:
    """Measure in turns, print what it came to, and tell whether the claim holds."""
    costs: dict[str, list[float]] = {"gateway": [], "echo": []}
    with tempfile.TemporaryDirectory() as folder, subjects(asked, Path(folder)) as servers:
        for _ in range(asked.repeat):
            for name, server in servers.items():
                spent, rate = cost(server, asked)
                costs[name].append(spent)
                print(f"{name:8} {spent:7.1f} us an echo, {rate:7.0f} echoes/s", flush=True)
    relayed, handled = median(costs["gateway"]) / 2, median(costs["echo"])
    spread = max((max(each) - min(each)) / median(each) for each in costs.values())
    print(f"{asked.clients} clients, {asked.size} bytes, {asked.repeat} rounds of {asked.seconds:g} s:")
    print(
        f"a message relayed by the gateway {relayed:.1f} us, one handled by the echo server {handled:.1f} us"
    )
    print(f"ratio {relayed / handled:.2f}, spread of the rounds {100 * spread:.0f} %")
    print(f"Claim (at most 1): {'shown' if relayed <= handled else 'NOT met'}")
    return relayed <= handled


def main() -> None:
    """Measure, or be one of the processes that it takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--size", type=int, default=1024, help="payload bytes of a message, below 64 KiB")
    parser.add_argument("--serve", choices=["backend", "echo", "load"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve == "backend":
        asyncio.run(serve_backend(asked.port, asked.size))
    elif asked.serve == "echo":
        trio.run(serve_echo, asked.port)
    elif asked.serve == "load":
        print(asyncio.run(load(asked.port, asked.clients, asked.seconds, asked.size)))
    else:
        sys.exit(not measure(asked))


if __name__ == "__main__":
    main()
