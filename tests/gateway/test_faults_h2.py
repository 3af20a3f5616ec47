"""Faults as HTTP/2 words them, before a whole gateway: none reaches a backend or troubles a neighbour."""

from __future__ import annotations

import h11
import pytest
import trio

from tests.support.doors import H2Caller
from tests.support.faults import case, fault
from tests.support.h2client import Fields, H2Client, H2Reply
from tests.support.stage import USERS, Door, Stage, recording
from tests.support.upstream import Received, Wire

PATH = USERS.encode() + b"/x"
RESET = 0  # a status: the stream is reset in place of an answer


def head(*fields: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A GET's fields; `pseudo` replaces some, None leaves one out."""
    said = {"method": b"GET", "scheme": b"http", "authority": b"a.example", "path": PATH, **pseudo}
    return [*((b":" + name.encode(), value) for name, value in said.items() if value is not None), *fields]


async def ask(stage: Stage, fields: Fields, *, body: bytes | None = None) -> tuple[H2Client, H2Reply]:
    """A request of exactly these fields, and what comes of it."""
    caller = await stage.connect()
    assert isinstance(caller, H2Caller)
    stream = await caller.client.raw_request(fields, end=body is None, body=body)
    return caller.client, await caller.client.reply(stream)


BENT = (b"a\r\nx: y", b"a\n", b"a\r", b"a\0b")
REFUSED = [
    *(case("D1", f"path {value!r}", head(path=PATH + value), RESET) for value in (*BENT, b"\x01", b" ")),
    *(case("D1", f"path {value!r}", head(path=PATH + value), 400) for value in (b"a b", b"\xc3\xa9")),
    *(case("D1", f"method {value!r}", head(method=value), RESET) for value in (*BENT, b"GET ", b"")),
    *(case("D1", f"method {value!r}", head(method=value), 400) for value in (b"G ET", b"\xff", b"get")),
    *(case("D1", f"name {name!r}", head((name, b"1")), RESET) for name in (*BENT, b"a b", b"\xe9", b"A")),
    *(case("D1", f"value {value!r}", head((b"x", value)), RESET) for value in (*BENT, b" a", b"a ", b"\x7f")),
    *(case("F8", repr(value), head((b"x", value)), RESET) for value in (b"a\0", b"a\rb", b"a\x1b[0m")),
    *(case("D2", repr(host), head((b"host", host)), 400) for host in (b"b.example", b"a.example:80", b"")),
    case("D2", "two Hosts", head((b"host", b"a.example"), (b"host", b"a.example")), 400),
    case("D2", "two Hosts alone", head((b"host", b"a"), (b"host", b"b"), authority=None), 400),
    case("L1", "none", head(authority=None), 400),
    *(case("L1", repr(value), head(authority=value), 400) for value in (b"u@a", b"a b", b"a/b", b"[::1%lo]")),
    case("L3", "another host", head(path=b"http://evil.example" + PATH), 400),
    case("L3", "its own host", head(path=b"http://a.example" + PATH), 400),
    *(case("L3", f"scheme {value!r}", head(scheme=value), RESET) for value in (b"ftp", b"", b"http\n")),
    case("L4", "CONNECT", [(b":method", b"CONNECT"), (b":authority", b"a:80")], 405),
    case("L4", "extended CONNECT", head((b":protocol", b"websocket"), method=b"CONNECT"), RESET),
    case("L4", "TRACE", head(method=b"TRACE"), 405),
    case("L4", "GET *", head(path=b"*"), 400),
    case("L8", "no slash", head(path=b"orchestrator/users"), 400),
    case("L8", "a fragment", head(path=PATH + b"#top"), 400),
    case("L8", "none", head(path=None), RESET),
    case("L8", "empty", head(path=b""), RESET),
    *(
        case("R2", repr(path), head(path=USERS.encode() + path), 400)
        for path in (b"/../adm", b"/%2e%2e/adm", b"/..%2fadm", b"/..;/adm", b"/\\..\\adm", b"/%5c")
    ),
    *(
        case("F3", repr(value), head((b"content-length", value)), 400)
        for value in (b"+3", b"-3", b"0x3", b"1_0", b"", b"1" * 23, b"3, 3")
    ),
    case("F3", "differing", head((b"content-length", b"0"), (b"content-length", b"3")), 400),
    case("K1", "a pseudo-header twice", [*head(), (b":path", PATH)], RESET),
    case("K1", "a pseudo-header behind a field", [(b"x", b"1"), *head()], RESET),
    case("K1", "an unknown pseudo-header", head((b":x", b"1")), RESET),
    *(
        case("D3", repr(field), head(field), RESET)
        for field in (
            (b"connection", b"x-forwarded-for"),
            (b"keep-alive", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"te", b"gzip"),
            (b"upgrade", b"h2c"),
            (b"proxy-connection", b"close"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status"), REFUSED)
async def test_what_is_refused_reaches_no_backend(h2: Door, fields: Fields, status: int) -> None:
    """One stream is answered or reset, its connection serves on, and no backend hears of it."""
    async with h2.stage() as stage:
        client, reply = await ask(stage, fields)
        assert (reply.status, reply.reset) == (status, 1 if status == RESET else None)
        assert stage.backend.connections == 0
        assert [line.status for line in await stage.lines()] == ([status] if status else [])
        assert (await client.fetch(b"GET", PATH)).status == 200
        assert client.goaway is None


@fault("L4")
async def test_options_asterisk_is_the_gateway_s(h2: Door) -> None:
    """Nobody upstream hears of it."""
    async with h2.stage() as stage:
        _, reply = await ask(stage, head(method=b"OPTIONS", path=b"*"))
        assert (reply.status, b"OPTIONS" in (reply.header(b"allow") or b"")) == (204, True)
        assert stage.backend.connections == 0


@fault("H1")
async def test_te_trailers_stays_with_its_connection(h2: Door) -> None:
    """The one field of a connection that HTTP/2 allows goes no further."""
    seen: list[Received] = []
    async with h2.stage(recording(seen)) as stage:
        assert (await ask(stage, head((b"te", b"trailers"))))[1].status == 200
        assert seen[0].values(b"te") == []


# ---- lengths ------------------------------------------------------------------------------------------


def witnessing(ends: list[str]) -> object:
    """A backend that notes how each upload ended."""

    async def script(wire: Wire) -> None:
        received = await wire.head()
        try:
            await wire.body(received)
        except (EOFError, OSError, h11.RemoteProtocolError):
            ends.append("cut")
            raise
        ends.append("whole")
        await wire.reply()
        await wire.closed()

    return script


@fault("D4")
@pytest.mark.parametrize("promised", [b"4", b"6"])
@pytest.mark.parametrize("pause", [0.0, 1.0])
async def test_a_length_that_lies_never_looks_whole(h2: Door, promised: bytes, pause: float) -> None:
    """Less or more DATA than was promised: a stream error, and the backend sees an abort, if anything."""
    ends: list[str] = []
    async with h2.stage(witnessing(ends)) as stage:  # type: ignore[arg-type]
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        client = caller.client
        stream = await client.raw_request(head((b"content-length", promised), method=b"POST"), end=False)
        await trio.sleep(pause)
        await client.send(stream, b"he")
        await trio.sleep(pause)
        await client.send(stream, b"llo", end=True)
        assert ((await client.reply(stream)).status, client.replies[stream].reset) == (0, 1)
        await trio.sleep(1)
        assert "whole" not in ends
        assert stage.open_upstream() == 0
        assert stage.target().breaker.failure_count == 0
        assert (await client.fetch(b"GET", PATH)).status == 200


@fault("F2")
async def test_no_request_hides_in_another(h2: Door) -> None:
    """DATA that reads like a request, or like the end of a chunked body, stays a body."""
    hidden = b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
    seen: list[Received] = []
    async with h2.stage(recording(seen)) as stage:
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        for length in ([], [(b"content-length", b"%d" % len(hidden))]):
            stream = await caller.client.raw_request(head(*length, method=b"POST"), end=False)
            await trio.sleep(1)
            await caller.client.send(stream, hidden, end=True)
            assert (await caller.client.reply(stream)).status == 200
        for fields in (head((b"content-length", b"0"), method=b"POST"), head(method=b"POST")):
            _, reply = await ask(stage, fields, body=hidden)
            assert reply.status in (RESET, 200)
        assert [(received.target, received.body) for received in seen] == [(b"/x", hidden)] * 3


@fault("F2")
@pytest.mark.parametrize("pause", [0.0, 1.0])
async def test_trailers_behind_a_length_are_framed(h2: Door, pause: float) -> None:
    """HTTP/2 may have both. The body goes on in the framing that its head announced, and is one message."""
    seen: list[Received] = []
    async with h2.stage(recording(seen)) as stage:
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        client = caller.client
        client.replies[1] = H2Reply(1)
        client.h2.send_headers(1, head((b"content-length", b"5"), method=b"POST"))
        if pause:
            await client.flush()
            await trio.sleep(pause)
        client.h2.send_data(1, b"hello")
        await client.end(1, [(b"x-sum", b"1")])
        assert (await client.reply(1)).status == 200
        assert (await client.fetch(b"GET", PATH)).status == 200
        assert [received.body for received in seen] == [b"hello", b""]


@fault("F12")
@pytest.mark.parametrize("trailers", [[(b":path", b"/y")], [(b"transfer-encoding", b"chunked")]])
async def test_malformed_trailers_never_end_a_body(h2: Door, trailers: Fields) -> None:
    """They are a stream error: the backend sees an abort, and no last chunk."""
    ends: list[str] = []
    async with h2.stage(witnessing(ends)) as stage:  # type: ignore[arg-type]
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        stream = await caller.client.raw_request(head(method=b"POST"), end=False)
        await caller.client.send(stream, b"hello")
        await trio.sleep(1)
        await caller.client.end(stream, trailers)
        assert (await caller.client.reply(stream)).reset == 1
        await trio.sleep(1)
        assert ends == ["cut"]


@fault("L7")
@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (head(), 200),
        (head(path=PATH + b"x" * 200), 414),
        (head((b"x", b"x" * 2000)), 431),
        (head(*[(b"x", b"1")] * 20), 431),
    ],
)
async def test_heads_mean_the_same_however_they_are_cut(
    h2: Door, fields: Fields, status: int, size: int
) -> None:
    """Frames in pieces of any size."""
    limits = {"target": 200, "head": 2000, "fields": 20}
    async with h2.stage(server={"limits": limits}) as stage:
        caller = await stage.connect()
        assert isinstance(caller, H2Caller)
        client = caller.client
        await trio.sleep(1)  # the settings have been exchanged: nothing gets between the pieces
        client.replies[1] = H2Reply(1)
        client.h2.send_headers(1, fields, end_stream=True)
        data = client.h2.data_to_send()
        for at in range(0, len(data), size):
            await client.link.send(data[at : at + size])
            await trio.sleep(0.0001)
        assert (await client.reply(1)).status == status
        assert stage.backend.connections == (status == 200)
