"""The small server of the sample backends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.client import RawClient, request
from trio_gateway.demo.backend import App, Backend, Call, number, texts
from trio_gateway.proxy.network import MemoryNetwork


async def echo(call: Call) -> None:
    """Answers with what it understood."""
    body = b""
    while data := await call.body.read():
        body += data
    await call.json({"path": call.path, "query": call.query, "body": body.decode()}, status=201)


@asynccontextmanager
async def client_of(app: App) -> AsyncIterator[RawClient]:
    """A connection to a backend that serves `app`."""
    network, backend = MemoryNetwork(), Backend(app)
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.serve, network)
        client = RawClient(await network.connect(*backend.address))
        try:
            yield client
        finally:
            client.link.close()
            nursery.cancel_scope.cancel()


async def test_a_call_carries_path_query_and_body() -> None:
    """An application reads the request without knowing its wire form."""
    async with client_of(echo) as client:
        await client.send(request("/a/b?x=1&y=%20&x=2", method="POST", body=b"hello"))
        answer = await client.answer("POST")
        assert answer.status == 201
        assert answer.value("Content-Type") == "application/json"
        assert json.loads(answer.body) == {"path": "/a/b", "query": {"x": "2", "y": " "}, "body": "hello"}


async def test_requests_follow_each_other_on_one_connection() -> None:
    """Keep-alive and pipelining hold, with bodies of both framings between."""
    async with client_of(echo) as client:
        chunked = request("/1", "Transfer-Encoding: chunked", method="POST") + b"2\r\nab\r\n0\r\n\r\n"
        await client.send(chunked + request("/2", method="POST", body=b"cd") + request("/3"))
        answers = [json.loads((await client.answer()).body) for _ in range(3)]
        assert [(answer["path"], answer["body"]) for answer in answers] == [
            ("/1", "ab"),
            ("/2", "cd"),
            ("/3", ""),
        ]


async def test_a_body_that_nobody_read_does_not_reach_the_next_request() -> None:
    """What the application leaves is thrown away, and the connection with it."""

    async def deaf(call: Call) -> None:
        await call.json({})

    async with client_of(deaf) as client:
        await client.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        assert (await client.answer("POST")).value("Connection") == "close"


async def test_what_is_no_request_ends_its_connection_only() -> None:
    """Garbage is dropped without an answer, and the backend serves on."""
    network, backend = MemoryNetwork(), Backend(echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.serve, network)
        bad = RawClient(await network.connect(*backend.address))
        await bad.send(b"\x16\x03\x01 not http\r\n\r\n")
        assert await bad.at_end()
        good = RawClient(await network.connect(*backend.address))
        assert (await good.get("/")).status == 201
        for client in (bad, good):
            client.link.close()
        nursery.cancel_scope.cancel()


async def test_an_application_can_wait_until_its_client_leaves() -> None:
    """`gone` returns with the end of the connection."""
    left = trio.Event()

    async def waiting(call: Call) -> None:
        await call.gone()
        left.set()

    async with client_of(waiting) as client:
        await client.send(request("/"))
        await trio.testing.wait_all_tasks_blocked()
        assert not left.is_set()
        client.link.close()
        await left.wait()


async def test_a_number_of_the_query_that_is_none_ends_the_connection() -> None:
    """An application need not judge its query by itself."""

    async def counting(call: Call) -> None:
        await call.json(number(call, "n", 7))

    async with client_of(counting) as client:
        assert json.loads((await client.get("/?n=2.5")).body) == 2.5
        assert json.loads((await client.get("/")).body) == 7
        await client.send(request("/?n=many"))
        assert await client.at_end()


def test_fields_become_texts() -> None:
    """JSON has no bytes; no field is lost on the way."""
    assert texts([(b"A", b"\xe9"), (b"A", b"2")]) == [["A", "é"], ["A", "2"]]
