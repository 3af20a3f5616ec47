"""The answer to what is no servable request, and the close behind it."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.client import RawClient
from tests.support.gateway import Lines
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import TooManyConnections
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.server.refusal import linger, refusal


async def pair() -> tuple[Link, Link]:
    network = MemoryNetwork()
    (listener,) = await network.listen("127.0.0.1", 8000)
    client = await network.connect("127.0.0.1", 8000)
    return client, await listener.accept()


async def test_a_refusal_is_a_whole_problem_document(autojump_clock: object) -> None:
    """With its fields, the end of the connection, and one line in the access log."""
    lines = Lines()
    runtime = Runtime(MemoryNetwork(), access_log=lines)  # type: ignore[arg-type]
    runtime.apply(GatewayConfig())
    client, gateway = await pair()
    await gateway.send(refusal(TooManyConnections(headers=((b"Retry-After", b"1"),)), runtime, "192.0.2.7"))
    answer = await RawClient(client).answer()
    assert (answer.status, answer.value("connection"), answer.value("retry-after")) == (503, "close", "1")
    document = json.loads(answer.body)
    assert (document["status"], document["code"]) == (503, "connection_limit")
    ((_, request_id, peer, *_, status, _, _, _, _, code, door, _, _),) = lines.records
    assert document["request_id"] == answer.value("x-request-id") == request_id.decode()  # type: ignore[attr-defined]
    assert (peer, status, code, door) == ("192.0.2.7", 503, "connection_limit", "lane")
    for end in (client, gateway):
        end.close()
    runtime.close()


async def test_what_a_client_still_sends_does_not_eat_the_answer(autojump_clock: object) -> None:
    """Our side ends at once; the client's bytes are taken until it ends, too."""
    client, gateway = await pair()
    await gateway.send(b"answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(linger, gateway)
        assert await client.receive() == b"answer"
        assert await client.receive() == b""
        await client.send(b"late")
        client.close()
    assert trio.current_time() == 0
    gateway.close()


async def test_lingering_ends(autojump_clock: object) -> None:
    """After two seconds of a client that stays."""
    client, gateway = await pair()
    await linger(gateway)
    assert trio.current_time() == pytest.approx(2)
    for end in (client, gateway):
        end.close()
