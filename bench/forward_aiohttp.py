"""An aiohttp forwarder, server and client, that streams replies and writes a JSON access log.

python forward_aiohttp.py PORT BACKEND_PORT
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterable

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
CLIENT = web.AppKey("client", ClientSession)
BACKEND = web.AppKey("backend", str)

log = logging.getLogger("access")


async def forward(request: web.Request) -> web.StreamResponse:
    """Send the request on below the backend's root, and its reply back as it comes."""
    started = time.perf_counter()
    headers = [
        (n, v) for n, v in request.headers.items() if n.lower() not in HOP_BY_HOP and n.lower() != "host"
    ]
    headers.append(("X-Forwarded-For", request.remote or ""))
    url = request.app[BACKEND] + request.raw_path.removeprefix("/orchestrator/bench")
    body = await request.read() if request.can_read_body else None
    async with request.app[CLIENT].request(
        request.method, url, headers=headers, data=body, allow_redirects=False
    ) as upstream:
        reply = web.StreamResponse(status=upstream.status, headers=_kept(upstream.headers.items()))
        await reply.prepare(request)
        async for chunk in upstream.content.iter_any():
            await reply.write(chunk)
        await reply.write_eof()
    _note(request, reply, time.perf_counter() - started)
    return reply


def _kept(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in HOP_BY_HOP}


def _note(request: web.Request, reply: web.StreamResponse, seconds: float) -> None:
    line = {
        "time": time.time(),
        "client": request.remote,
        "method": request.method,
        "path": request.path,
        "status": reply.status,
        "bytes": reply.body_length,
        "duration": round(seconds, 6),
    }
    log.info(json.dumps(line))


async def client(app: web.Application) -> AsyncIterator[None]:
    """One session for the app's life, with as many connections as are asked for."""
    connector = TCPConnector(limit=0)
    async with ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()
    ) as session:
        app[CLIENT] = session
        yield


def application(backend: int) -> web.Application:
    """The app that forwards `/orchestrator/bench/...` to the backend's port."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app[BACKEND] = f"http://127.0.0.1:{backend}"
    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/orchestrator/bench/{path:.*}", forward)
    return app


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    web.run_app(
        application(int(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        backlog=2048,
    )
