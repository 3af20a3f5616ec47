"""What `demo --check` shows: each check sends real requests and says in one line what came of them.

The backends run in the same program, so a check sees both sides: what a client got, and what reached
the backend and when.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx
import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from trio_gateway.demo.stage import Stage

_PATIENCE = 5.0  # seconds for any one check
_PIECE = bytes(range(256)) * 256
_PIECES = 64
_GREETING = "hello from the demo"
_EVENTS = 4
_EVERY = 0.15  # seconds between two events


class NotShown(Exception):
    """A check did not show what it should; the text says what came instead."""


@frozen
class Finding:
    """One check's title, whether it showed what it should, and a sentence about it."""

    title: str
    shown: bool
    sentence: str


def expect(condition: bool, instead: str) -> None:
    """Raises NotShown unless the condition holds."""
    if not condition:
        raise NotShown(instead)


async def until(condition: Callable[[], bool], instead: str, within: float = 1.0) -> float:
    """Wait for a condition; the seconds that it took. Raises NotShown after `within` seconds."""
    began = trio.current_time()
    while not condition():
        expect(trio.current_time() - began < within, instead)
        await trio.sleep(0.001)
    return trio.current_time() - began


async def path_and_query(stage: Stage, client: httpx.AsyncClient) -> str:
    """The raw rest of the path and the query reach the backend byte for byte."""
    reply = await client.get(f"{stage.base}/users/42/a%2Fb//c?tag=x&tag=%20y")
    target = reply.json()["target"]
    expect(target == "/api/42/a%2Fb//c?tag=x&tag=%20y", f"the backend received {target}")
    return f"the backend received {target}"


async def streamed_post(stage: Stage, client: httpx.AsyncClient) -> str:
    """A body of unknown length reaches the backend while it is still being sent."""
    digest = hashlib.sha256()
    early = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal early
        for index in range(_PIECES):
            if index == _PIECES - 1:
                await until(lambda: stage.users.received > 0, "nothing arrived before the last piece")
                early = stage.users.received
            digest.update(_PIECE)
            yield _PIECE

    reply = await client.post(f"{stage.base}/users/upload", content=pieces())
    body = reply.json()["body"]
    expect(body["sha256"] == digest.hexdigest(), f"the backend's digest is another one: {body}")
    return f"{body['bytes']} bytes, the same SHA-256; {early} were there before the last was sent"


async def events_one_by_one(stage: Stage, client: httpx.AsyncClient) -> str:
    """Each event arrives before the next one is sent."""
    arrived: list[tuple[int, float]] = []  # at each event: how many were sent, and how long it took
    already = stage.events.sent
    async with client.stream("GET", f"{stage.base}/events?count={_EVENTS}&every={_EVERY}") as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                seconds = trio.current_time() - json.loads(line[6:])["at"]
                arrived.append((stage.events.sent - already, seconds))
    sent = [count for count, _ in arrived]
    expect(sent == list(range(1, _EVENTS + 1)), f"as the events arrived, so many were sent: {sent}")
    late = max(seconds for _, seconds in arrived)
    return f"{len(arrived)} events, each within {late * 1000:.1f} ms of being sent"


async def breaker_opens_and_recovers(stage: Stage, client: httpx.AsyncClient) -> str:
    """Failures in a row cut the backend off; it is tried again and let in when it is well."""
    url, direct = f"{stage.base}/flaky/x", stage.backends["flaky"].url
    await client.post(f"{direct}/break")
    failures = [(await client.get(url)).status_code for _ in range(stage.temper.failures)]
    expect(failures == [503] * stage.temper.failures, f"the failures came as {failures}")
    reached = stage.flaky.requests
    refused = (await client.get(url)).json()
    expect(refused.get("code") == "circuit_open", f"instead of a refusal came {refused}")
    expect(stage.flaky.requests == reached, "the backend was asked though the breaker is open")
    await client.post(f"{direct}/mend")
    opened = trio.current_time()
    while (status := (await client.get(url)).status_code) != 200:
        expect(trio.current_time() - opened < 2.0, f"still {status} two seconds later")
        await trio.sleep(0.02)
    seconds = trio.current_time() - opened
    return f"{len(failures)} failures opened it, it refused by itself, and closed {seconds:.1f} s later"


async def timeout_is_504(stage: Stage, client: httpx.AsyncClient) -> str:
    """A backend that does not answer costs its timeout and no more."""
    began = trio.current_time()
    reply = await client.get(f"{stage.base}/flaky/hang")
    seconds, limit = trio.current_time() - began, stage.temper.timeout
    expect(reply.status_code == 504, f"the answer was {reply.status_code}")
    expect(limit <= seconds < limit + 1.0, f"it took {seconds:.2f} s")
    return f"504 {reply.json()['code']} after {seconds:.2f} s; the timeout is {limit:g} s"


async def departed_client(stage: Stage, client: httpx.AsyncClient) -> str:  # noqa: ARG001  needs a socket
    """A client that leaves takes its upstream connection with it."""
    host, port = stage.gateway.addresses[0]
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        await stream.send_all(b"GET /orchestrator/events?every=3600 HTTP/1.1\r\nHost: demo\r\n\r\n")
        head = await stream.receive_some()
        expect(head.startswith(b"HTTP/1.1 200 "), f"the stream opened with {head[:40]!r}")
    seconds = await until(lambda: stage.events.streams == 0, "the backend's connection is still open")
    return (
        f"the backend's connection was closed {seconds * 1000:.0f} ms after the client left a silent stream"
    )


async def websocket_echo(stage: Stage, client: httpx.AsyncClient) -> str:  # noqa: ARG001  needs a socket
    """A WebSocket's message comes back, and so does its goodbye."""
    host, port = stage.gateway.addresses[0]
    answer: str | bytes = ""
    took, code = 0.0, 0
    try:
        stream = await trio.open_tcp_stream(host, port)
        async with stream, trio.open_nursery() as nursery:
            peer = await wrap_client_stream(nursery, stream, f"{host}:{port}", "/orchestrator/users/echo")
            began = trio.current_time()
            await peer.send_message(_GREETING)
            answer = await peer.get_message()
            took = trio.current_time() - began
            await peer.aclose(4000, "enough")
            code = peer.closed.code if peer.closed else 0
    except* (HandshakeError, ConnectionClosed) as errors:
        raise NotShown(f"no WebSocket: {errors.exceptions[0]!r}") from None
    expect(answer == _GREETING, f"{answer!r} came back")
    expect(code == 4000, f"the close code came back as {code}")
    return f"a message came back after {took * 1000:.1f} ms, and close code {code} was answered"


Check = Callable[[Stage, httpx.AsyncClient], Awaitable[str]]

CHECKS: dict[str, Check] = {
    "sub-path and query": path_and_query,
    "streamed POST": streamed_post,
    "server-sent events": events_one_by_one,
    "circuit breaker": breaker_opens_and_recovers,
    "timeout": timeout_is_504,
    "client that leaves": departed_client,
    "WebSocket": websocket_echo,
}


async def run_checks(stage: Stage, checks: dict[str, Check] = CHECKS) -> AsyncGenerator[Finding, None]:
    """Run the checks one after another and tell what each showed."""
    async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE) as client:
        for title, check in checks.items():
            yield await _finding(title, check, stage, client)


async def _finding(title: str, check: Check, stage: Stage, client: httpx.AsyncClient) -> Finding:
    try:
        with trio.fail_after(_PATIENCE):
            return Finding(title, True, await check(stage, client))
    except (NotShown, trio.TooSlowError, httpx.HTTPError, OSError, LookupError, ValueError) as error:
        return Finding(title, False, str(error) or type(error).__name__)
