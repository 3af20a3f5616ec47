"""Plays kosoku's cases against a WebSocket server and prints how many ran and which failed, as JSON.

`python conformance.py URL PATTERN...`. kosoku speaks no TLS: for a wss url each of its connections goes
through a pipe that does, and trusts `SSL_CERT_FILE`.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from contextlib import suppress
from urllib.parse import urlsplit

from kosoku import FailureError, run_fuzzingclient

CONCURRENCY = 16


async def play(url: str, cases: list[str]) -> dict[str, object]:
    """How many cases were played, and the ids of those that failed."""
    try:
        results = await run_fuzzingclient(await plain(url), cases, concurrency=CONCURRENCY)
    except FailureError as failure:
        results = failure.results
    return {"played": len(results), "failed": [result.case_id for result in results if not result.passed]}


async def plain(url: str) -> str:
    """A ws url for the same; behind one that was wss stands a pipe."""
    parts = urlsplit(url)
    if parts.scheme == "ws":
        return url
    context = ssl.create_default_context()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        await asyncio.gather(copy(reader, beyond[1]), copy(beyond[0], writer))

    server = await asyncio.start_server(pipe, "127.0.0.1", 0)
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy to the end, then end the copy."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(sys.argv[1], sys.argv[2:]))), flush=True)
    os._exit(0)  # kosoku's threads sometimes abort an interpreter that ends in order
