"""A FastAPI + httpx forwarder as teams write it: whole bodies, one shared client, uvicorn, a JSON access log.

python forward_fastapi.py PORT BACKEND_PORT
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"}
FRAMING = HOP_BY_HOP | {"content-length", "content-encoding"}

log = logging.getLogger("access")


def application(backend: int) -> FastAPI:
    """The app that forwards `/orchestrator/bench/...` to the backend's port."""
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{backend}", timeout=httpx.Timeout(30, pool=None))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/orchestrator/bench/{path:path}", methods=["GET", "POST"])
    async def forward(path: str, request: Request) -> Response:
        started = time.perf_counter()
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        headers["x-forwarded-for"] = request.client.host if request.client else ""
        reply = await client.request(
            request.method,
            "/" + path,
            params=request.query_params,
            headers=headers,
            content=await request.body(),
        )
        kept = {name: value for name, value in reply.headers.items() if name not in FRAMING}
        _note(request, reply, time.perf_counter() - started)
        return Response(reply.content, reply.status_code, kept)

    return app


def _note(request: Request, reply: httpx.Response, seconds: float) -> None:
    line = {
        "time": time.time(),
        "client": request.client.host if request.client else "",
        "method": request.method,
        "path": request.url.path,
        "status": reply.status_code,
        "bytes": len(reply.content),
        "duration": round(seconds, 6),
    }
    log.info(json.dumps(line))


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    uvicorn.run(application(int(sys.argv[2])), port=int(sys.argv[1]), log_level="warning", access_log=False)
