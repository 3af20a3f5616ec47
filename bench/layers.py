"""What one exchange costs the gateway, in microseconds of CPU: our own steps, seen one by one.

A whole gateway with all defaults on runs in this process, on real sockets. A forked child is both its
clients and its upstream: a bare epoll loop that answers at once. With `--against` another checkout does
the same in turn, many short turns each, and what counts is the median of the ratios of neighbouring turns:
that holds on a busy machine, down to one part in a hundred. The same checkout twice is the A/A control.

    python bench/layers.py [--clients 32] [--requests 1500] [--rounds 30] [--against CHECKOUT]
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CONFIG = """\
server: {{bind: ["127.0.0.1:0"]}}
endpoints: [{{url: "http://127.0.0.1:{port}/", name: bench, methods: [GET, POST]}}]
"""
REQUEST = b"GET /orchestrator/bench/small HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BODY = b'{"id": 7, "name": "bench", "tags": ["small", "json"], "active": true}'
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 19:34:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(BODY)
) + BODY


class Peer:
    """Clients and upstream in one epoll loop. `turn` makes the clients ask `requests` times in all."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._clients: dict[int, socket.socket] = {}
        self._upstreams: dict[int, socket.socket] = {}

    def connect(self, port: int, clients: int) -> None:
        """Open the clients' connections."""
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", port))
            self._clients[self._registered(client)] = client

    def _registered(self, sock: socket.socket) -> int:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._epoll.register(sock, select.EPOLLIN)
        return sock.fileno()

    def turn(self, requests: int) -> None:
        """Ask and answer until `requests` replies are in."""
        left = requests
        asked = 0
        for client in self._clients.values():
            client.send(REQUEST)
            asked += 1
        while left:
            for fileno, _ in self._epoll.poll():
                client_end = self._clients.get(fileno)
                if client_end is not None:
                    if not client_end.recv(65536).endswith(BODY):
                        raise RuntimeError("not the expected reply")
                    left -= 1
                    if asked < requests:
                        asked += 1
                        client_end.send(REQUEST)
                elif fileno == self._listener.fileno():
                    accepted = self._listener.accept()[0]
                    self._upstreams[self._registered(accepted)] = accepted
                else:
                    self._answer(fileno)

    def _answer(self, fileno: int) -> None:
        upstream = self._upstreams[fileno]
        if upstream.recv(65536):
            upstream.send(REPLY)
        else:
            del self._upstreams[fileno]
            upstream.close()


def drive(listener: socket.socket, orders: socket.socket, clients: int) -> None:
    """The child: connect to the port that it is told, then a turn for each order."""
    peer = Peer(listener)
    peer.connect(int(orders.recv(64)), clients)
    orders.send(b"connected")
    while order := orders.recv(64):
        peer.turn(int(order))
        orders.send(b"done")


def measure(clients: int) -> None:
    """Print the microseconds an exchange of one turn for each number of requests on standard input."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cores = sorted(os.sched_getaffinity(0))
    if os.fork() == 0:
        ours.close()
        os.sched_setaffinity(0, {cores[0]})
        try:
            drive(listener, theirs, clients)
        finally:
            os._exit(0)
    theirs.close()
    os.sched_setaffinity(0, {cores[-1]})
    _serve(listener.getsockname()[1], ours)


def _serve(port: int, orders: socket.socket) -> None:
    import trio

    from trio_gateway.config.load import load_config
    from trio_gateway.observe.accesslog import AccessLog
    from trio_gateway.observe.logs import configure
    from trio_gateway.supervisor import Gateway

    configure("text", "ERROR", sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.yaml")
        path.write_text(CONFIG.format(port=port))
        config = load_config(str(path)).config
        lines = os.open(Path(directory, "access.log"), os.O_CREAT | os.O_WRONLY)
    log = AccessLog(lines, "json")
    log.start()
    gc.collect()
    gc.freeze()

    async def main() -> None:
        gateway = Gateway(config, access_log=log)
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(gateway.run)
            await _order(orders, addresses[0][1])
            while requests := int(await trio.to_thread.run_sync(sys.stdin.readline) or 0):
                began = time.process_time()
                await _order(orders, requests)
                print((time.process_time() - began) / requests * 1e6, flush=True)
            orders.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


async def _order(orders: socket.socket, number: int) -> None:
    import trio

    orders.send(b"%d" % number)
    await trio.lowlevel.wait_readable(orders)
    if not orders.recv(64):
        raise RuntimeError("the peer ended")


@contextmanager
def measuring(checkout: Path, clients: int) -> Iterator[subprocess.Popen[str]]:
    """A process that measures a checkout's gateway, turn by turn."""
    argv = [sys.executable, __file__, "--measure", "--clients", str(clients)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        _turn(process, 0)


def _turn(process: subprocess.Popen[str], requests: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{requests}\n")
    process.stdin.flush()
    return float(process.stdout.readline() or 0)


def compare(checkouts: list[Path], options: argparse.Namespace) -> None:
    """Turns of each checkout in alternation: medians, and the ratios of neighbours to the first."""
    turns: list[list[float]] = []
    with ExitStack() as stack:
        processes = [stack.enter_context(measuring(each, options.clients)) for each in checkouts]
        for process in processes:
            _turn(process, options.requests)  # warms up
        for number in range(options.rounds):
            order = processes[::-1] if number % 2 else processes
            turn = [_turn(process, options.requests) for process in order]
            turns.append(turn[::-1] if number % 2 else turn)
    for number, checkout in enumerate(checkouts):
        costs = [turn[number] for turn in turns]
        low, middle, high = statistics.quantiles((turn[number] / turn[0] for turn in turns), n=4)
        print(
            f"{statistics.median(costs):6.1f} us, best {min(costs):6.1f}; "
            f"ratio {middle:.3f} ({low:.3f} to {high:.3f})  {checkout}"
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=1500, help="in one turn (default 1500)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--against", type=Path, action="append", default=[], help="another checkout")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.clients)
    else:
        compare([HERE, *options.against], options)


if __name__ == "__main__":
    main()
