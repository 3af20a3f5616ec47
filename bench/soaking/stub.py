"""The quickest backend that plain Python makes: each read of a connection gets one fixed reply.

Prints its port, then serves until it is killed.
"""

from __future__ import annotations

import selectors
import socket

REPLY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'


def serve() -> None:
    """Serve for ever."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server.setblocking(False)
    print(server.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is server:
                client, _ = server.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(client, selectors.EVENT_READ)
            else:
                answer(key.fileobj, selector)  # type: ignore[arg-type]


def answer(client: socket.socket, selector: selectors.BaseSelector) -> None:
    """One reply for one read, or the end."""
    try:
        if client.recv(65536):
            client.send(REPLY)
            return
    except OSError:
        pass
    selector.unregister(client)
    client.close()


if __name__ == "__main__":
    serve()
