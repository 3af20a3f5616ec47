"""What TLS changes for a request, and what nobody can claim about it."""

from __future__ import annotations

import contextlib
import json

import pytest
import trio
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, PriorityFrame, SettingsFrame

from tests.support.authority import Authority
from tests.support.client import RawClient, request
from tests.support.doors import Cut
from tests.support.faults import fault, through
from tests.support.gateway import GATEWAY
from tests.support.stage import USERS, Door, Stage, recording
from tests.support.upstream import Received, Wire, answering
from trio_gateway.proxy.link import Link
from trio_gateway.wire.request import H2_PREFACE

DOORS = ("lane-tls", "h2-tls")
CERTIFIED = "X-Forwarded-Client-Cert"
FORGED = [f"{CERTIFIED}: Hash=00", "X_Forwarded-Client_Cert: Hash=00", "x-forwarded-client-cert: Hash=00"]


def values(received: Received, name: str) -> list[bytes]:
    """A field's values, whatever joins the words of its name."""
    wanted = name.lower().encode()
    return [value for key, value in received.headers if key.lower().replace(b"_", b"-") == wanted]


async def plain_client(stage: Stage) -> RawClient:
    """A client that does not know of TLS."""
    return await stage.world.client()


async def test_backends_and_clients_see_https(door: Door) -> None:
    """X-Forwarded-Proto says so, and redirects of the backend lead back to it."""
    seen: list[Received] = []
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://backend.example/next\r\nContent-Length: 0\r\n\r\n"
    async with door.stage(recording(seen, moved)) as stage:
        answer = await stage.get()
        assert answer.value("location") == "https://gateway.example/orchestrator/users/next"
    assert values(seen[0], "X-Forwarded-Proto") == [b"https"]


async def test_a_client_is_named_by_its_certificate(door: Door, authority: Authority) -> None:
    """Verified by `client_ca`; nothing that a client says is in the field."""
    seen: list[Received] = []
    alice = authority.ca.issue_cert("alice@example.org", common_name="alice")
    async with door.stage(recording(seen), server={"tls": {"client_ca": authority.pem}}) as stage:
        caller = await stage.connect(show=alice)
        for fields in ((), FORGED):
            assert (await caller.fetch("GET", USERS, *fields)).status == 200
    for received in seen:
        (told,) = values(received, CERTIFIED)
        assert told.startswith(b"Hash=")
        assert b"CN=alice" in told


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_certificate_can_t_be_claimed(door: Door, trusted: bool) -> None:
    """Where none is asked for, no field says anything, not even a trusted proxy's."""
    seen: list[Received] = []
    server = {"trusted_proxies": ["127.0.0.1"]} if trusted else {}
    async with door.stage(recording(seen), server=server) as stage:
        assert (await stage.get("", *FORGED)).status == 200
    assert values(seen[0], CERTIFIED) == []


async def test_a_client_without_a_certificate_does_not_come_in(door: Door, authority: Authority) -> None:
    """No request of it is read."""
    async with door.stage(server={"tls": {"client_ca": authority.pem}}) as stage:
        with pytest.raises((OSError, Cut)):
            await stage.get()
        assert stage.backend.connections == 0
        assert stage.gateway.runtime.metrics.tls.failures == {"client_certificate": 1}


async def test_a_reply_to_a_certificate_is_kept_for_nobody(door: Door, authority: Authority) -> None:
    """`cached_response` would show it to the next client."""
    endpoint = {"circuit_breaker": {"fallback_strategy": "cached_response"}}
    alice = authority.ca.issue_cert("alice@example.org")
    async with door.stage(
        answering, endpoint, server={"tls": {"client_ca": authority.pem}}, health_check={"enabled": False}
    ) as stage:
        caller = await stage.connect(show=alice)
        assert (await caller.fetch("GET", USERS)).status == 200
        stage.target().breaker.trip(trio.current_time())
        assert (await caller.fetch("GET", USERS)).status == 503


async def test_plain_http_gets_a_clear_end(door: Door) -> None:
    """400 in plain HTTP that says what to do, and a close."""
    async with door.stage() as stage:
        client = await plain_client(stage)
        answer = await client.get(USERS)
        assert answer.status == 400
        assert json.loads(answer.body)["detail"] == "This port speaks TLS: use https"
        assert answer.value("connection") == "close"
        assert await client.at_end()
        assert stage.backend.connections == 0
        assert stage.gateway.runtime.metrics.tls.failures == {"plain_http": 1}


@fault("C3")
async def test_handshakes_that_say_nothing_end_at_their_timer(door: Door) -> None:
    """`timeouts.handshake`; who shakes hands meanwhile is served."""
    async with door.stage(server={"timeouts": {"handshake": 3}}) as stage:
        silent = [await plain_client(stage) for _ in range(20)]
        assert (await stage.get()).status == 200
        begun = trio.current_time()
        for client in silent:
            assert await client.at_end()
        assert trio.current_time() - begun == pytest.approx(3, abs=0.2)
        assert stage.gateway.runtime.metrics.tls.failures == {"timeout": 20}
        assert (await stage.get()).status == 200


async def test_handshakes_count_for_their_client(door: Door) -> None:
    """Who may have two connections has two silent ones, and no third until their time is up."""
    limits = {"connections_per_client": 2}
    async with door.stage(server={"timeouts": {"handshake": 3}, "limits": limits}) as stage:
        silent = [await plain_client(stage) for _ in range(2)]
        await trio.sleep(1)
        with pytest.raises(OSError):
            await stage.get()
        assert stage.gateway.runtime.metrics.connections_refused["connections_per_client"] == 1
        for client in silent:
            assert await client.at_end()
        assert (await stage.get()).status == 200


async def test_a_stop_does_not_wait_for_handshakes(door: Door) -> None:
    """Nobody has asked for anything on them yet."""
    async with door.stage(shutdown={"delay": 0, "drain": 8}) as stage:
        await plain_client(stage)
        await trio.sleep(1)
        stage.gateway.stop()
        begun = trio.current_time()
        await stage.ended.wait()
        assert trio.current_time() - begun < 2.5  # long before the handshake's own timer


async def test_http_1_is_served_where_nothing_was_agreed_on(door: Door, authority: Authority) -> None:
    """ALPN is for HTTP/2; and without it, HTTP/2 is not spoken, whatever `h2c` says (RFC 9113 3.2)."""
    async with door.stage(server={"h2c": True}) as stage:
        link = await Stage(stage.world, "", stage.ended, authority).dial()
        client = RawClient(link)
        assert (await client.get(USERS)).status == 200
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await client.answer()).status == 505
        link.close()


async def test_a_listener_can_stay_plain(door: Door) -> None:
    """`tls: false` for one of several."""
    other = ("127.0.0.1", 8001)
    binds = [f"{GATEWAY[0]}:{GATEWAY[1]}", {"address": f"{other[0]}:{other[1]}", "tls": False}]
    async with door.stage(server={"bind": binds}) as stage:
        assert (await stage.get()).status == 200
        plain = RawClient(await stage.network.connect(*other))
        assert (await plain.get(USERS)).status == 200
        plain.link.close()


async def test_the_management_api_on_its_own_listener_stays_plain(door: Door) -> None:
    """Its client on the same machine has no certificate to check."""
    own = ("127.0.0.1", 8002)
    async with door.stage(admin={"bind": f"{own[0]}:{own[1]}", "auth": "none"}) as stage:
        plain = RawClient(await stage.network.connect(*own))
        assert (await plain.get("/livez")).status == 200
        plain.link.close()
        assert (await stage.fetch("GET", USERS)).status == 200


HOSTILE = {
    "HTTP/1.1 where HTTP/2 was agreed on": b"GET /orchestrator/users HTTP/1.1\r\nHost: a\r\n\r\n",
    "nonsense": b"\xff" * 1000,
    "a preface and nonsense": H2_PREFACE + b"\xff" * 1000,
    "pings": H2_PREFACE + SettingsFrame(0).serialize() + PingFrame(0, b"12345678").serialize() * 1000,
    "priorities": H2_PREFACE
    + b"".join(PriorityFrame(n, stream_weight=1).serialize() for n in range(1, 2000, 2)),
    "a head that never ends": H2_PREFACE
    + SettingsFrame(0).serialize()
    + HeadersFrame(1, b"\x82").serialize()
    + ContinuationFrame(1, b"\x00" * 16_000).serialize() * 100,
}


@fault("K1")
@fault("D6")
@through("h2")
@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_opening_ends_its_own_connection(
    said: bytes, door: Door, authority: Authority
) -> None:
    """Whatever comes over HTTP/2 by ALPN; who asks beside it is answered."""
    async with door.stage() as stage:
        hostile = await Stage(stage.world, "h2", stage.ended, authority).dial()
        bystander = await stage.connect()
        assert hostile.alpn == "h2"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say, hostile, said)
            assert (await bystander.fetch("GET", USERS)).status == 200
            with trio.fail_after(20):
                assert await _ended(hostile)
        assert (await bystander.fetch("GET", USERS)).status == 200
        hostile.close()


async def _say(link: Link, data: bytes) -> None:
    with contextlib.suppress(OSError):
        await link.send(data)


async def _ended(link: Link) -> bool:
    with contextlib.suppress(OSError):
        while await link.receive():
            pass
    return True


@pytest.mark.parametrize("whole", [True, False])
async def test_only_a_whole_reply_ends_with_a_goodbye(whole: bool, door: Door, authority: Authority) -> None:
    """To an HTTP/1.0 client the end of the connection is that of the body: a cut must not look like one."""

    async def stream(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await trio.sleep(1)
        await wire.send(b"0\r\n\r\n" if whole else b"nonsense\r\n")

    async with door.stage(stream) as stage:
        link = await Stage(stage.world, "", stage.ended, authority).dial()
        await link.send(request(USERS, version="1.0"))
        received = b""
        with contextlib.nullcontext() if whole else pytest.raises(OSError):
            while data := await link.receive():
                received += data
        assert received.endswith(b"\r\n\r\nabc")
        link.close()
