"""A WebSocket server by an independent library, as a process of its own; it prints its port.

`/echo` gives every message back, `/close/CODE` says goodbye with that code, `/refuse` answers 403, `/size`
says how large each message was. `python websockets_server.py [CERTIFICATE]` speaks TLS with a PEM file.
"""

from __future__ import annotations

import asyncio
import http
import logging
import ssl
import sys
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol


async def handle(peer: ServerConnection) -> None:
    """Serve one WebSocket."""
    assert peer.request is not None
    path = peer.request.path
    if path.startswith("/close/"):
        await peer.close(int(path.removeprefix("/close/")), "as you wish")
    async for message in peer:
        await peer.send(str(len(message)) if path == "/size" else message)


def refuse(peer: ServerConnection, request: Request) -> Response | None:
    """Refuse what asks for it."""
    if request.path != "/refuse":
        return None
    response = peer.respond(http.HTTPStatus.FORBIDDEN, "not you\n")
    response.headers["X-Reason"] = "asked for"
    return response


def choose(peer: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The last of those that are offered."""
    return offered[-1] if offered else None


async def main() -> None:
    """Serve until the process is ended."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # hostile clients are what it is for
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    async with serve(
        handle,
        "127.0.0.1",
        0,
        ssl=context,
        process_request=refuse,
        select_subprotocol=choose,
        max_size=2**26,
        ping_interval=None,
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
