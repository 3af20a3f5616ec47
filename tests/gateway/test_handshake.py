"""Opening a WebSocket: what reaches the upstream, what its answer may be, and who is refused before."""

from __future__ import annotations

import pytest
import trio

from tests.support.client import request
from tests.support.faults import fault
from tests.support.frames import frame
from tests.support.stage import USERS, Door, recording, silent
from tests.support.upstream import Received, Wire
from tests.support.websocket import (
    FIELDS,
    KEY,
    Peer,
    accepting,
    echo,
    echo_and_close,
    handshake,
    open_websocket,
)

# ---- what reaches the upstream ----------------------------------------------------------------------


async def test_the_upstream_gets_the_clients_handshake(lane: Door) -> None:
    """Each field that matters, as it was said; what belongs to a hop is said anew, and ours are there."""
    asked: list[Received] = []

    async def note(peer: Peer) -> None:
        asked.append(peer.request)

    said = [
        "Origin: https://app.example",
        "Authorization: Bearer abc",
        "Cookie: a=1; b=2",
        "Sec-WebSocket-Protocol: graphql-ws, chat",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "X-Whatever: caf\xe9",
    ]
    async with lane.stage(accepting(note, b"Sec-WebSocket-Protocol: chat")) as stage:
        client = await open_websocket(stage, *said, "Keep-Alive: 5", target=f"{USERS}/a%2Fb?q=1")
        assert client.answer.values("sec-websocket-protocol") == ["chat"]
        (received,) = asked
        assert (received.method, received.target) == (b"GET", b"/a%2Fb?q=1")
        headers = received.headers
        for line in said:
            name, _, value = line.partition(": ")
            assert (name.encode(), value.encode("latin-1")) in headers
        assert received.values(b"host") == [b"backend.example"]
        assert received.values(b"upgrade") == [b"websocket"]
        assert received.values(b"connection") == [b"Upgrade"]
        assert received.values(b"sec-websocket-key") == [KEY.encode()]
        assert received.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert received.values(b"x-forwarded-proto") == [b"http"]
        assert received.values(b"x-request-id")
        assert not received.values(b"keep-alive")
        assert not received.values(b"content-length")


async def test_the_client_gets_the_upstreams_answer(lane: Door) -> None:
    """Its fields with ours beside them, and no framing, for nothing of HTTP follows."""
    async with lane.stage(accepting(echo, b"X-Session: 7", b"Set-Cookie: a=1", b"Set-Cookie: b=2")) as stage:
        answer = (await open_websocket(stage)).answer
        assert answer.value("x-session") == "7"
        assert answer.values("set-cookie") == ["a=1", "b=2"]
        assert (answer.value("upgrade"), answer.value("connection")) == ("websocket", "Upgrade")
        assert answer.value("x-endpoint-id") == "users"
        assert answer.value("x-request-id")
        assert not answer.values("content-length")
        assert not answer.values("transfer-encoding")


# ---- an upstream that refuses -----------------------------------------------------------------------

REFUSALS = {
    401: b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nContent-Length: 5\r\n\r\nlogin",
    403: b"HTTP/1.1 403 Origin\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n3\r\nyou\r\n0\r\n\r\n",
    302: b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    200: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na page",
    503: b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy",
    426: b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n",
}
BODIES = {401: b"login", 403: b"notyou", 302: b"", 200: b"a page", 503: b"busy", 426: b""}
CARRIED = {
    401: ("www-authenticate", "Bearer"),
    302: ("location", "https://elsewhere.example/"),
    503: ("retry-after", "7"),
    426: ("sec-websocket-version", "8"),
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_passes_as_it_is(lane: Door, status: int) -> None:
    """Status, fields and body; the client's connection goes on behind it."""

    async def refuse(wire: Wire) -> None:
        await wire.head()
        await wire.send(REFUSALS[status])

    async with lane.stage(refuse) as stage:
        caller = await stage.connect()
        for _ in range(2):
            answer = await caller.fetch("GET", USERS, *FIELDS)
            assert (answer.status, answer.body) == (status, BODIES[status])
            if status in CARRIED:
                assert answer.value(CARRIED[status][0]) == CARRIED[status][1]
        assert await stage.reasons() == ["completed"] * 2
        assert stage.gateway.runtime.metrics.streams.active == 0


ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
BAD = {
    "another accept": UPGRADE + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "no accept": UPGRADE.rstrip(),
    "another protocol": b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + ACCEPT,
    "no upgrade": b"X: y",
    "a subprotocol unasked": UPGRADE + ACCEPT + b"\r\nSec-WebSocket-Protocol: other",
    "an extension unasked": UPGRADE + ACCEPT + b"\r\nSec-WebSocket-Extensions: permessage-deflate",
}


@fault("W4")
@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
async def test_a_bad_101_is_502_before_the_client_is_upgraded(lane: Door, fields: bytes) -> None:
    """The client learns of no upgrade, the connection is dropped, and the breaker counts it."""

    async def answer(wire: Wire) -> None:
        await wire.head()
        await wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"
        )
        await wire.closed()

    async with lane.stage(answer) as stage:
        caller = await stage.connect()
        answered = await caller.fetch("GET", USERS, *FIELDS, "Sec-WebSocket-Protocol: chat")
        assert answered.status == 502
        assert b"/admin" not in answered.body
        assert stage.open_upstream() == 0
        assert stage.target().breaker.failure_count == 1
        assert await stage.reasons() == ["invalid_upstream_reply"]


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 1", b"garbage\r\n\r\n"])
async def test_an_upstream_that_answers_nothing_valid_is_502(lane: Door, reply: bytes) -> None:
    """The same as for any request."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(reply)

    async with lane.stage(script) as stage:
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == 502


async def test_a_handshake_that_is_never_answered_is_504(lane: Door) -> None:
    """`timeout` bounds it; behind the 101 it has nothing to say."""
    async with lane.stage(silent, {"timeout": 5}) as stage:
        began = trio.current_time()
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == 504
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)


# ---- who is refused before anything is sent ---------------------------------------------------------


async def test_websockets_may_be_disabled(lane: Door) -> None:
    """403, and the endpoint serves its other requests."""
    async with lane.stage(endpoint={"websocket": {"enabled": False}}) as stage:
        refused = await stage.fetch("GET", USERS, *FIELDS)
        assert refused.status == 403
        assert b"websocket_disabled" in refused.body
        assert (await stage.get()).status == 200
        assert stage.backend.connections == 1


async def test_the_top_level_block_is_the_default(lane: Door) -> None:
    """As for every endpoint block; an endpoint's word wins."""
    own = {"url": "http://backend.example/", "name": "own", "websocket": {"enabled": True}}
    async with lane.stage(accepting(echo), others=[own], websocket={"enabled": False}) as stage:
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == 403
        await open_websocket(stage, target="/orchestrator/own")


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        ({"deny": ["127.0.0.0/8"]}, 403),
        ({"disabled": True}, 503),
        ({"methods": ["POST"]}, 405),
    ],
)
async def test_gates_come_first(lane: Door, endpoint: dict[str, object], status: int) -> None:
    """A handshake is a GET to them."""
    async with lane.stage(endpoint=endpoint) as stage:
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == status
        assert (await stage.fetch("GET", "/orchestrator/nobody", *FIELDS)).status == 404
        assert stage.backend.connections == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((*FIELDS[:3], "Sec-WebSocket-Version: 8"), 426),
        (FIELDS[:3], 426),
        ((FIELDS[0], FIELDS[1], FIELDS[3]), 400),
        ((*FIELDS[:2], FIELDS[3], "Sec-WebSocket-Key: short"), 400),
        ((*FIELDS, "Content-Length: 4"), 400),
    ],
)
async def test_a_malformed_handshake_goes_nowhere(lane: Door, fields: tuple[str, ...], status: int) -> None:
    """Nothing of it reaches the upstream, nor what stands behind it; the breaker is not asked."""
    async with lane.stage() as stage:
        client = await stage.world.client()
        await client.send(handshake(asked=fields) + b"GET ")
        answer = await client.head()
        assert answer.status == status
        if status == 426:
            assert answer.value("sec-websocket-version") == "13"
            assert answer.value("upgrade") == "websocket"
        assert stage.backend.connections == 0


async def test_a_request_behind_a_websocket_is_no_request(lane: Door) -> None:
    """What stands behind an accepted handshake is frames: an HTTP request there breaks the protocol."""
    raws: list[Peer] = []

    async def note(peer: Peer) -> None:
        raws.append(peer)
        await peer.end()

    async with lane.stage(accepting(note)) as stage:
        client = await open_websocket(stage, behind=request("/admin"))
        assert (await client.goodbye() or (0,))[0] == 1002
        await client.end()
        assert await stage.reasons() == ["client_violation"]
        assert raws[0].reader.close is not None
        assert not raws[0].reader.messages
        assert stage.backend.connections == 1


async def test_other_upgrades_are_plain_requests(lane: Door) -> None:
    """`Upgrade: h2c` and a handshake of HTTP/1.0 are ignored (RFC 9110 7.8); the field is not forwarded."""
    seen: list[Received] = []
    async with lane.stage(recording(seen)) as stage:
        assert (await stage.get("", "Upgrade: h2c", "Connection: Upgrade")).status == 200
        client = await stage.world.client()
        await client.send(request(USERS, *FIELDS, version="1.0"))
        assert (await client.answer()).status == 200
        assert [each.values(b"upgrade") for each in seen] == [[], []]


async def test_a_handshake_on_a_management_path_is_no_websocket(lane: Door) -> None:
    """It is answered as the request that it is, and nothing behind it is served."""
    async with lane.stage() as stage:
        for target in ("/livez", "/stats", "/nowhere"):
            client = await stage.world.client()
            await client.send(handshake(target=target) + frame(1, b"hello", masked=True))
            answer = await client.answer()
            assert answer.status in (200, 400, 401, 404)
            assert await client.at_end()


# ---- breaker and places -----------------------------------------------------------------------------


async def test_a_websocket_settles_the_breaker_at_its_101(lane: Door) -> None:
    """An open one holds no half-open place, and an open breaker refuses handshakes."""
    failing = True

    async def moody(wire: Wire) -> None:
        if failing:
            return
        await accepting(echo)(wire)

    config = {"circuit_breaker": {"failure_threshold": 1, "reset_timeout": 10, "half_open_max_calls": 1}}
    async with lane.stage(moody, config) as stage:
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == 502
        refused = await stage.fetch("GET", USERS, *FIELDS)
        assert refused.status == 503
        assert b"circuit_open" in refused.body
        failing = False
        await trio.sleep(11)
        await open_websocket(stage)
        assert stage.target().breaker.state.value == "closed"
        await open_websocket(stage)


async def test_open_websockets_hold_places_of_the_pool(lane: Door) -> None:
    """The next one waits its turn, within `timeout`."""
    config = {"pool": {"max_connections": 1}, "timeout": 5}
    async with lane.stage(accepting(echo_and_close), config) as stage:
        first = await open_websocket(stage)
        assert (await stage.fetch("GET", USERS, *FIELDS)).status == 504
        await first.close(1000)
        await first.end()
        await open_websocket(stage)
