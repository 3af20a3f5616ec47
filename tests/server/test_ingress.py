"""The ingress: what it makes of a scope, which requests it takes, and Quart's views beside it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve
from quart import Response, request
from trio.testing import MockClock

from tests.support.second_door import answer, echo, second_door
from trio_gateway.admin.app import make_app
from trio_gateway.config.addresses import network
from trio_gateway.config.model import GatewayConfig, ServerConfig, TracingConfig
from trio_gateway.errors import ClientGone, GatewayError, PayloadTooLarge, UpstreamReset
from trio_gateway.proxy.exchange import Body, Exchange, Reply
from trio_gateway.proxy.problem import problem
from trio_gateway.server.ingress import Ingress

PATH = b"/orchestrator/users"


def trusting(peer: str) -> GatewayConfig:
    """A config that believes one proxy."""
    return GatewayConfig(server=ServerConfig(trusted_proxies=(network(peer),)))


# ---- what is proxied


@pytest.mark.parametrize(
    ("path", "proxied"),
    [
        (b"/orchestrator", True),
        (b"/orchestrator/", True),
        (b"/orchestrator//x", True),
        (b"/orchestrator/%2e%2e/x", True),  # the route refuses it
        (b"/orchestrators", False),
        (b"/", False),
        (b"//orchestrator/x", False),
        (b"/%6frchestrator/x", False),
        (b"/x/../orchestrator/x", False),
        (b"/orchestrator%2Fx", False),
    ],
)
async def test_the_raw_prefix_decides(path: bytes, proxied: bool, autojump_clock: MockClock) -> None:
    """Only a path that begins with the prefix as it stands is proxied; what decodes to it is nobody's."""
    async with second_door() as door, door.h2() as client:
        reply = await client.fetch(b"GET", path)
        assert [exchange.path for exchange in door.exchanges] == ([path] if proxied else [])
        assert reply.status == (200 if proxied or path == b"/" else 404)


async def test_targets_stay_as_they_are(autojump_clock: MockClock) -> None:
    """Path and query are the client's bytes, and an empty query is not none."""
    targets = {b"/a%2Fb;c//d%C3%A9?x=%20&&": b"x=%20&&", b"/a?": b"", b"/a": None, b"/%3Fa?b?c": b"b?c"}
    async with second_door() as door, door.h2() as client:
        for target in targets:
            await client.fetch(b"GET", b"/orchestrator" + target)
    seen = [(exchange.request.target, exchange.query) for exchange in door.exchanges]
    assert seen == [(b"/orchestrator" + target, query) for target, query in targets.items()]


async def test_http_1_1_takes_the_same_way(autojump_clock: MockClock) -> None:
    """A proxied path that comes over HTTP/1.1 is served by the same exchange."""
    async with second_door() as door:
        message = (
            b"POST "
            + PATH
            + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        reply = await door.h1(message)
    assert reply.endswith(b"hello")
    assert (door.exchanges[0].request.version, door.exchanges[0].body.received) == (b"1.1", 5)


async def test_asterisk_is_ours(autojump_clock: MockClock) -> None:
    """`OPTIONS *` is answered here, and goes with no other method."""
    async with second_door() as door, door.h2() as client:
        options = await client.fetch(b"OPTIONS", b"*")
        other = await client.fetch(b"GET", b"*")
    assert (options.status, other.status, door.exchanges) == (204, 400, [])
    assert b"OPTIONS" in (options.header(b"allow") or b"")


# ---- who asks


async def test_ids_are_kept_or_made(autojump_clock: MockClock) -> None:
    """An acceptable inbound id stays, unless the config doesn't trust it; others are replaced."""
    for config, inbound, kept in (
        (GatewayConfig(), b"my-id.1", True),
        (GatewayConfig(), b"with space", False),
        (GatewayConfig(tracing=TracingConfig(trust_inbound_request_id=False)), b"my-id.1", False),
    ):
        async with second_door(config=config) as door, door.h2() as client:
            await client.fetch(b"GET", PATH, [(b"x-request-id", inbound)])
        assert (door.exchanges[0].hop.request_id == inbound) is kept
        assert len(door.exchanges[0].hop.request_id) >= 7


async def test_the_client_is_who_a_trusted_proxy_says(autojump_clock: MockClock) -> None:
    """X-Forwarded-For counts only from `trusted_proxies`."""
    for config, client_address, trusted in (
        (GatewayConfig(), "192.0.2.7", False),
        (trusting("192.0.2.0/24"), "203.0.113.9", True),
    ):
        async with second_door(config=config) as door, door.h2() as client:
            await client.fetch(b"GET", PATH, [(b"x-forwarded-for", b"203.0.113.9")])
        exchange = door.exchanges[0]
        assert (exchange.client, exchange.hop.trusted) == (client_address, trusted)
        assert (exchange.hop.peer, exchange.hop.scheme, exchange.hop.version) == (b"192.0.2.7", b"http", b"2")


async def test_host_alone_is_enough(autojump_clock: MockClock) -> None:
    """A client may send Host in place of `:authority`, or both when they agree."""
    base = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", PATH)]
    async with second_door() as door, door.h2() as client:
        await client.reply(await client.raw_request([*base, (b"host", b"a.test")]))
        both = [*base[:2], (b":authority", b"A.test"), *base[2:], (b"host", b"a.test")]
        await client.reply(await client.raw_request(both))
        none = await client.reply(await client.raw_request(base))
        two = await client.reply(await client.raw_request([*base, (b"host", b"a"), (b"host", b"a")]))
    assert [exchange.hop.host for exchange in door.exchanges] == [b"a.test", b"A.test"]
    assert (none.status, two.status) == (400, 400)


# ---- replies


async def test_replies_are_framed_for_the_client(autojump_clock: MockClock) -> None:
    """Names go out in lower case, connection fields stay behind, values pass byte by byte."""

    async def serve(exchange: Exchange) -> None:
        headers = [
            (b"X-Mixed", b"\xfc Case"),
            (b"Set-Cookie", b"a=1"),
            (b"Connection", b"close"),
            (b"Set-Cookie", b"b=2"),
            (b"Transfer-Encoding", b"chunked"),
        ]
        await answer(exchange, b"data", 299, *headers)

    async with second_door(serve) as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH)
    assert (reply.status, bytes(reply.body)) == (299, b"data")
    assert reply.headers == [
        (b"x-mixed", b"\xfc Case"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"content-length", b"4"),
    ]


async def test_an_error_before_the_head_is_a_problem_document(autojump_clock: MockClock) -> None:
    """Whoever serves answers through the writer; the client sees one whole reply."""

    async def serve(exchange: Exchange) -> None:
        reply = problem(UpstreamReset(), exchange.hop.request_id)
        exchange.writer.start(reply)
        await exchange.writer.finish(reply.body.take() or b"", [])

    async with second_door(serve) as door, door.h2() as client:
        reply = await client.fetch(b"GET", PATH)
    assert (reply.status, reply.ended) == (502, True)


async def test_writing_to_a_client_that_left_says_so(autojump_clock: MockClock) -> None:
    """Each method of the writer raises ClientGone behind a departure."""
    raised: list[GatewayError] = []

    async def serve(exchange: Exchange) -> None:
        exchange.writer.start(Reply(200, [], Body()))
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
            for attempt in (exchange.writer.flush, lambda: exchange.writer.write(b"x")):
                try:
                    await attempt()
                except GatewayError as error:
                    raised.append(error)

    async with second_door(serve) as door, door.h2() as client:
        stream = await client.request(b"GET", PATH)
        await trio.sleep(1)
        await client.reset(stream)
        await trio.sleep(20)
    assert [type(error) for error in raised] == [ClientGone, ClientGone]


async def test_a_body_over_its_limit_is_refused(autojump_clock: MockClock) -> None:
    """The byte beyond `limit` raises PayloadTooLarge; what came before was read."""
    seen: list[object] = []

    async def serve(exchange: Exchange) -> None:
        exchange.body.limit = 10
        try:
            while piece := await exchange.body.read():
                seen.append(piece)
        except PayloadTooLarge as error:
            seen.append(error.status)
        await answer(exchange, b"", 413)

    async with second_door(serve) as door, door.h2() as client:
        stream = await client.request(b"POST", PATH, end=False)
        for _ in range(2):
            await trio.sleep(1)
            await client.send(stream, b"12345678")
        assert (await client.reply(stream)).status == 413
    assert seen == [b"12345678", 413]


# ---- beside the proxied paths


async def test_views_are_quarts(autojump_clock: MockClock) -> None:
    """A view gets its body and answers; its own fields and errors are the application's."""

    async def shout() -> Response:
        return Response((await request.get_data()).upper(), headers={"X-Own": "1"})

    async with second_door() as door, door.h2() as client:
        door.app.add_url_rule("/shout", "shout", shout, methods=["POST"])
        stream = await client.request(b"POST", b"/shout", end=False)
        await client.send(stream, b"hello ")
        await client.send(stream, b"world", end=True)
        reply = await client.reply(stream)
        head = await client.fetch(b"HEAD", b"/")
    assert (bytes(reply.body), reply.header(b"x-own")) == (b"HELLO WORLD", b"1")
    assert (head.status, bytes(head.body)) == (200, b"")
    assert door.exchanges == []


async def test_a_view_may_answer_slowly(autojump_clock: MockClock) -> None:
    """No timeout of Quart's cuts a long reply."""

    async def slow() -> Response:
        async def pieces() -> Any:
            for _ in range(3):
                await trio.sleep(100)
                yield b"x"

        return Response(pieces())

    async with second_door() as door, door.h2() as client:
        door.app.add_url_rule("/slow", "slow", slow)
        reply = await client.fetch(b"GET", b"/slow")
    assert (bytes(reply.body), reply.ended) == (b"xxx", True)


async def test_a_view_whose_reply_is_not_read_ends(autojump_clock: MockClock) -> None:
    """A closed window ends a view's reply as it ends a proxied one, and is no bug."""

    async def large() -> Response:
        return Response(b"x" * 1_000_000)

    async with second_door() as door, door.h2(initial_window=100, acknowledge=False) as client:
        door.app.add_url_rule("/large", "large", large)
        reply = await client.fetch(b"GET", b"/large")
        assert (reply.ended, reply.reset) == (False, 2)


async def test_a_view_with_wrong_heads_is_not_reached(autojump_clock: MockClock) -> None:
    """The application's own pages get the same strictness."""
    async with second_door() as door, door.h2() as client:
        reply = await client.fetch(b"GET", b"/", [(b"host", b"other")])
        assert (reply.status, len(door.refused)) == (400, 1)


# ---- other ASGI servers


async def test_the_test_client_reaches_an_exchange(autojump_clock: MockClock) -> None:
    """Quart's own test client, which knows no stream of ours, gets proxied replies and pages."""
    config = GatewayConfig()
    app = make_app(lambda: config, Ingress(echo, lambda: config))
    client = app.test_client()
    posted = await client.post("/orchestrator/users?a=1", data=b"hello")
    page = await client.get("/")
    missing = await client.get("/missing")
    assert (posted.status_code, await posted.get_data()) == (200, b"hello")
    assert (page.status_code, missing.status_code) == (200, 404)


async def test_limits_follow_the_config(autojump_clock: MockClock) -> None:
    """The config is asked for each request, so a reload shows."""
    config = GatewayConfig()
    current = [config]
    app = make_app(lambda: config, Ingress(echo, lambda: current[0]))
    client = app.test_client()
    assert (await client.get("/orchestrator/" + "x" * 100)).status_code == 200
    limits = evolve(config.server.limits, target=50)
    current[0] = GatewayConfig(server=evolve(config.server, limits=limits))
    assert (await client.get("/orchestrator/" + "x" * 200)).status_code == 414
