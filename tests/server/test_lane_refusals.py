"""What the lane refuses: one answer to each fault, however it comes, and no bytes behind it served."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.support.client import request
from tests.support.faults import case, fault, through
from tests.support.lane import USERS, drip, exchange, gateway, is_closed
from tests.support.upstream import Wire

pytestmark = through("lane")


def post(*fields: str) -> bytes:
    return request(USERS, *fields, method="POST")


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked") + body


def length(value: str) -> bytes:
    return post(f"Content-Length: {value}")


def coding(value: str) -> bytes:
    return post(f"Transfer-Encoding:{value}")


LINE = b"GET " + USERS.encode() + b" "
REFUSED = [
    case("F1", "length, coding", post("Content-Length: 2", "Transfer-Encoding: chunked"), 400),
    case("F1", "coding, length", post("Transfer-Encoding: chunked", "Content-Length: 2"), 400),
    *(
        case("F3", repr(value), length(value), 400)
        for value in ("+3", "-3", "0x3", "1_0", "", "1" * 23, "3, 3")
    ),
    case("F3", "two that differ", post("Content-Length: 3", "Content-Length: 4"), 400),
    case("F3", "two that agree", post("Content-Length: 3", "Content-Length: 3"), 400),
    *(
        case("F5", repr(value), coding(value), 400)
        for value in ("\x0bchunked", " identity", " chunked, identity", " chunked, chunked", " chunked\t", "")
    ),
    *(case("F5", repr(value), coding(value), 501) for value in (" xchunked", " gzip", " gzip, chunked")),
    case("F5", "a space before the colon", post("Transfer-Encoding : chunked"), 400),
    case("F5", "twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    case("F5", "HTTP/1.0", request(USERS, "Transfer-Encoding: chunked", method="POST", version="1.0"), 400),
    case("F7", "a field", request(USERS, "X: a\r\n folded"), 400),
    case("F7", "a coding", coding("\r\n chunked"), 400),
    case("F7", "the first field", LINE + b"HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 400),
    *(case("F8", repr(octet), request(USERS, f"X: a{octet}b"), 400) for octet in "\0\r\x01\x0b\x1b\x7f"),
    case("F8", "in a name", request(USERS, "X\0: a"), 400),
    case("F9", "everywhere", request(USERS).replace(b"\r\n", b"\n"), 400),
    case("F9", "in the middle", request(USERS, "X: a\nY: b"), 400),
    case("F9", "at the end", request(USERS)[:-2] + b"\n\r\n", 400),
    case("F9", "in front", b"\r\n\n" + request(USERS), 400),
    *(
        case("F10", repr(line), chunked(line + b"\r\nx\r\n0\r\n\r\n"), 400)
        for line in (
            b"0x1",
            b"1_0",
            b"-1",
            b"+1",
            b" 1",
            b"",
            b"0" * 16 + b"1",
            b"1;a\x01b",
            b"1;a\nb",
            b"1;\r",
        )
    ),
    case("F10", "bare LF", chunked(b"1\nx\n0\n\n"), 400),
    case("F10", "too much", chunked(b"1\r\nxy\r\n"), 400),
    case("F10", "a long extension", chunked(b"1;" + b"a" * 2000 + b"\r\nx\r\n0\r\n\r\n"), 400),
    case("F10", "a request for a trailer", chunked(b"0\r\n" + request(USERS)), 400),
    case("L1", "none", LINE + b"HTTP/1.1\r\n\r\n", 400),
    case("L1", "two", request(USERS, "Host: a", "Host: b"), 400),
    case("L1", "two that agree", request(USERS, "Host: a", "host: a"), 400),
    *(
        case("L1", repr(host), request(USERS, f"Host: {host}"), 400)
        for host in ("a b", "a/b", "u@a", "[::1%lo]")
    ),
    case("L3", "another scheme", request("ftp://a" + USERS), 400),
    case("L3", "userinfo", request("http://u:p@a" + USERS), 400),
    case("L3", "a port that is none", request("http://a:123456" + USERS), 400),
    case("L4", "TRACE", request(USERS, method="TRACE"), 405),
    case("L4", "CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    case("L4", "GET *", request("*"), 400),
    case("L6", "2.0", request(USERS, version="2.0"), 505),
    case("L6", "9.9", request(USERS, version="9.9"), 505),
    case("L6", "PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    case("L6", "none", LINE[:-1] + b"\r\n\r\n", 400),
    case("L6", "another protocol", LINE + b"RTSP/1.0\r\nHost: a\r\n\r\n", 400),
    case("L7", "a target", request(USERS + "/" + "a" * 20_000), 414),
    case("L7", "a target just too long", request(USERS + "/" + "a" * 200), 414),
    case("L7", "a head of 40 KB", request(USERS, "X: " + "a" * 40_000), 431),
    case("L7", "1000 fields", request(USERS, *["X: a"] * 1000), 431),
    case("L7", "21 fields", request(USERS, *["X: a"] * 20), 431),
    case("L8", "no slash", request("users"), 400),
    case("L8", "a fragment", request(USERS + "#top"), 400),
    case("L8", "beyond ASCII", request(USERS + "/caf\xe9"), 400),
    case("L8", "a space", request(USERS + "/a b"), 400),
    case("L8", "two spaces", request(" " + USERS), 400),
    case("R1", "NUL", request(USERS + "/%00"), 400),
    case("R1", "no escape", request(USERS + "/%zz"), 400),
    *(
        case("R2", path, request(USERS + path), 400)
        for path in ("/../closed", "/%2e%2e/closed", "/..%2fclosed", "/..;/closed", "/\\..\\closed", "/%5c")
    ),
    case("H1", "Host", request(USERS, "Connection: host"), 400),
    (request(USERS, "Expect: 200-ok", method="POST", body=b"x"), 417),
    (request(USERS, method="get"), 400),
    (request(USERS, method="BREW"), 501),
    (length("1001"), 413),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
async def test_what_is_refused_gets_one_answer_and_a_close(
    data: bytes, status: int, autojump_clock: object
) -> None:
    """The same however it is cut: a problem document, then the end, and nothing behind it is a request."""
    async with gateway() as here:
        for count, how in enumerate(("whole", "drip"), 1):
            client = await here.client()
            if how == "whole":
                await client.send(data + request(USERS) * 3)
            else:
                here.nursery.start_soon(drip, client, data, 0.001)
            answer = await client.answer(data.split(b" ", 1)[0].strip().decode())
            assert answer.status == status
            assert answer.value("content-type") == "application/problem+json"
            assert json.loads(answer.body)["request_id"] == answer.value("x-request-id")
            assert [line[8] for line in here.lines] == [status] * count
            assert answer.values("connection") == ["close"]
            assert await is_closed(client, within=3)
            await trio.sleep(0.1)
            assert here.backend.open == 0
            begun = how == "drip" and b"chunked" in data  # what is malformed came behind what was not
            assert here.backend.connections == 0 or begun


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(USERS, method="DELETE"), 405),
        (request(USERS, "Via: " + ", ".join(["1.1 trio-gateway"] * 3)), 508),
        (request(USERS, method="POST", body=bytes(1001)), 413),
        (request("/orchestrator/closed", method="POST", body=b"ab"), 503),
        (request("/orchestrator/nobody"), 404),
    ],
)
async def test_a_refused_request_that_is_well_formed_keeps_its_connection(
    data: bytes, status: int, autojump_clock: object
) -> None:
    """It was read to its end, so the next one is served."""
    async with gateway() as here:
        client, answer = await exchange(here, data + request(USERS))
        assert (answer.status, answer.values("connection")) == (status, [])
        assert (await client.answer()).status == 200


async def test_a_405_says_what_is_allowed(autojump_clock: object) -> None:
    """By the endpoint's methods, or by ours for what no endpoint can have."""
    async with gateway() as here:
        (_, answer) = await exchange(here, request(USERS, method="DELETE"))
        assert (answer.status, answer.value("allow")) == (405, "GET, HEAD, OPTIONS, POST, PUT")
        (_, answer) = await exchange(here, request(USERS, method="TRACE"))
        assert "GET" in answer.value("allow")


@fault("L4")
async def test_options_asterisk_is_the_gateways(autojump_clock: object) -> None:
    """Nobody upstream hears of it."""
    async with gateway() as here:
        (_, answer) = await exchange(here, request("*", method="OPTIONS"))
        assert (answer.status, answer.body) == (204, b"")
        assert "OPTIONS" in answer.value("allow")
        assert here.backend.connections == 0
        line = here.lines[-1]
        assert (line[1], line[3], line[4], line[8]) == (
            answer.value("x-request-id").encode(),
            b"OPTIONS",
            b"*",
            204,
        )


@fault("L3")
async def test_the_authority_of_an_absolute_target_wins(autojump_clock: object) -> None:
    """RFC 9112 3.2.2: Host says something else, and the upstream hears of one host only."""

    async def script(wire: Wire) -> None:
        received = await wire.request()
        await wire.reply(received.target + b" " + b",".join(received.values(b"x-forwarded-host")))

    async with gateway(script) as here:
        (_, answer) = await exchange(here, request(f"http://Real.example{USERS}/x?y", "Host: other.example"))
        assert answer.body.lower() == b"/x?y real.example"


async def test_a_path_beside_the_prefix_is_handed_over(autojump_clock: object) -> None:
    """One exchange with the application behind the second door, whatever was pipelined."""
    async with gateway() as here:
        for target in ("/", "/orchestratorx", "/nowhere"):
            client = await here.client()
            await client.send(request(target) * 2)
            answer = await client.answer()
            assert answer.status == (200 if target == "/" else 404)
            assert await is_closed(client, within=3)


async def test_a_path_without_an_endpoint_is_404(autojump_clock: object) -> None:
    """The old gateway's words, and the connection is kept."""
    async with gateway() as here:
        client = await here.client()
        for target, shown in (
            ("/orchestrator/nobody/x", "nobody/x"),
            ("/orchestrator", ""),
            ("/orchestrator//users", "users"),
        ):
            answer = await client.get(target)
            assert answer.status == 404
            assert (
                json.loads(answer.body)["detail"].rstrip() == f"No endpoint found for path: {shown}".rstrip()
            )


# ---- Expect -----------------------------------------------------------------------------------------


async def test_100_is_said_when_the_upstream_is_connected(autojump_clock: object) -> None:
    """Before, nobody knows whether the body is wanted."""
    async with gateway() as here:
        client = await here.client()
        await client.send(request(USERS, "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert await client.link.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await trio.testing.wait_all_tasks_blocked()
        assert here.backend.connections == 1
        await client.send(b"ab")
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, [])
        assert (await client.get(USERS)).status == 200


@pytest.mark.parametrize(
    ("target", "length", "status"),
    [("/orchestrator/closed", 2, 503), (USERS, 5000, 413), ("/orchestrator/no", 2, 404)],
)
async def test_a_refusing_gate_answers_instead_of_100(
    target: str, length: int, status: int, autojump_clock: object
) -> None:
    """The body was never asked for, so the connection closes behind the answer."""
    async with gateway() as here:
        client, answer = await exchange(
            here, request(target, "Expect: 100-continue", f"Content-Length: {length}", method="POST")
        )
        assert (answer.status, answer.interim, answer.values("connection")) == (status, [], ["close"])
        assert await is_closed(client)
        assert here.backend.connections == 0


@pytest.mark.parametrize(("connect", "status"), [("refused", 502), ("hanging", 504)])
async def test_an_unreachable_upstream_answers_instead_of_100(
    connect: str, status: int, autojump_clock: object
) -> None:
    """Nobody asks for a body that has nowhere to go."""
    async with gateway() as here:
        if connect == "refused":
            del here.network.listeners[here.backend.address]
        else:
            here.network.hang.add(here.backend.address)
        data = request(USERS, "Expect: 100-continue", "Content-Length: 2", method="POST")
        _, answer = await exchange(here, data)
        assert (answer.status, answer.interim) == (status, [])


async def test_a_body_that_did_not_wait_needs_no_100(autojump_clock: object) -> None:
    """Its client changed its mind."""
    async with gateway() as here:
        _, answer = await exchange(here, request(USERS, "Expect: 100-continue", method="POST", body=b"ab"))
        assert (answer.status, answer.interim) == (200, [])
