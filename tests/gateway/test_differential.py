"""What is accepted means one thing: three parsers read the same single request in what goes upstream.

Hypothesis makes messages, good ones and bent ones, and cuts them anywhere. Another request stands behind
each. Whatever comes of them is the same however they were cut, and a backend never sees a request that
is neither of the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import h11
import trio
from attrs import evolve, field, frozen
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.agreement import Reading, agreed
from tests.support.doors import H2Caller
from tests.support.faults import fault, through
from tests.support.gateway import GATEWAY
from tests.support.h2client import Fields, H2Client, H2Reply
from tests.support.stage import METHODS, OK, USERS, Door, Stage, in_virtual_time
from tests.support.upstream import Script, Wire

NEXT = f"GET {USERS}/next HTTP/1.1\r\nHost: a\r\n\r\n".encode()

FRESH = (b"traceparent", b"x-request-id", b"content-length", b"transfer-encoding")
SHORT = {"head": 1, "body_idle": 1, "keep_alive": 1}  # each conversation ends with one of them
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking runs a gateway a thousand times

# ---- messages -----------------------------------------------------------------------------------------

PATHS = st.text(st.sampled_from("ab/.%2fF0;=?&:@!$'()*+,~_-|\"<>^`{}[]"), max_size=12).map(str.encode)
NAMES = st.sampled_from(
    b"X Y-z x_y Content-Language Accept Cookie Authorization Connection TE Trailer Keep-Alive Upgrade Via "
    b"Proxy-Connection X-Forwarded-For X_Forwarded_For Content_Length Transfer_Encoding Forwarded "
    b"Content-Length Transfer-Encoding Host host Proxy !#$%&'*+.^`|~".split()
)
TRICKY = (
    *(
        b"",
        b"close",
        b"keep-alive, x",
        b"chunked",
        b"identity",
        b"gzip, chunked",
        b"0",
        b"5",
        b"+5",
        b"trailers",
    ),
    *(b"websocket", b"a.example", b"u@a", b"x, content-length", b"host", b"1.1 trio-gateway"),
)
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=8)
VALUES = st.sampled_from(TRICKY) | TEXT.map(lambda text: text.encode("latin-1"))
EXTENSIONS = st.sampled_from([b""] * 5 + [b";x", b";x=y", b'; x="y z"', b" ;x"])
BENDS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b":",
    b";",
    b",",
    b"0",
    b"\xff",
    b"\r\n\r\n",
    b"",
]


@frozen
class Message:
    """A request in HTTP/1.1 and, unless something bent it, what it means."""

    data: bytes
    method: bytes
    body: bytes
    straight: bool
    cuts: tuple[int, ...] = field(default=())

    def pieces(self) -> Iterator[bytes]:
        """It and the next request behind it, cut."""
        data, at = self.data + NEXT, 0
        for cut in (*sorted({cut % len(data) for cut in self.cuts}), len(data)):
            yield data[at:cut]
            at = cut


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Mostly good ones."""
    method = draw(st.sampled_from([name.encode() for name in METHODS]))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    straight = not {name for name, _ in fields} & {b"Content-Length", b"Transfer-Encoding"}
    body = b"".join(pieces)
    sent = body if framing == "length" else b""
    if framing == "length":
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        fields.append((b"Transfer-Encoding", b"chunked"))
        chunks = [b"%x%b\r\n%b\r\n" % (len(piece), draw(EXTENSIONS), piece) for piece in pieces]
        trailers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=2))
        lines = [b"%b: %b\r\n" % each for each in trailers]
        sent = b"".join([*chunks, b"0\r\n", *lines, b"\r\n"])
    lines = [b"%b: %b\r\n" % each for each in draw(st.permutations([(b"Host", b"a"), *fields]))]
    path = draw(st.sampled_from([b"/", b"/", b"/", b""])) + draw(PATHS)
    data = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, USERS.encode() + path, b"".join(lines), sent)
    if not draw(st.integers(0, 2)):
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        data, straight = data[:at] + draw(st.sampled_from(BENDS)) + data[at + gone :], False
    cuts = tuple(draw(st.lists(st.integers(0, 10_000), max_size=6)))
    return Message(data, method, body if framing != "none" else b"", straight, cuts)


# ---- the lane -----------------------------------------------------------------------------------------


def reading(seen: list[Reading]) -> Script:
    """A backend that notes each whole request, once three parsers agree on it."""

    async def script(wire: Wire) -> None:
        while True:
            wire.raw = b""
            await wire.request()
            seen.append(_essence(agreed(wire.raw)))
            await wire.send(OK)

    return script


def _essence(read: Reading) -> Reading:
    """What may differ from one delivery to the next, left out: ids, and how the body is framed."""
    return evolve(read, headers=[each for each in read.headers if each[0].lower() not in FRESH])


async def converse(stage: Stage, pieces: Iterator[bytes]) -> bytes:
    """All that comes back until the gateway ends the connection."""
    link = await stage.network.connect(*GATEWAY)
    data = b""
    with contextlib.suppress(OSError):
        for piece in pieces:
            if piece:
                await link.send(piece)
                await trio.sleep(0.001)
    with contextlib.suppress(OSError):
        while more := await link.receive():
            data += more
    link.close()
    return data


def statuses(data: bytes, method: bytes) -> list[int]:
    """The final replies to a request of that method and the GETs behind it."""
    found = []
    while data:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(data)
        parser.receive_data(b"")
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                found.append(event.status_code)
        data, method = parser.trailing_data[0], b"GET"
    return found


def _agree(some: Sequence[object], more: Sequence[object]) -> bool:
    """One goes on where the other stops: a refused body that was not yet here costs its connection."""
    return all(one == other for one, other in zip(some, more, strict=False))


async def check_lane(batch: list[Message]) -> None:
    seen: list[Reading] = []
    async with Door("lane").stage(reading(seen), server={"timeouts": SHORT}) as stage:
        for message in batch:
            whole = statuses(await converse(stage, iter([message.data + NEXT])), message.method)
            read, seen[:] = list(seen), []
            cut = statuses(await converse(stage, message.pieces()), message.method)
            if whole[0] == 400 and cut[0] > 400:  # refused before the rest of its body was seen to be bent
                cut = whole
            assert _agree(cut, whole)
            assert _agree(seen, read)
            assert len(read) <= len(whole) <= 2 + message.data.count(b"\r\n\r\n")
            if message.straight and whole[0] == 200:
                assert (cut, seen) == (whole, read)
                assert (read[0].method, read[0].body) == (message.method, message.body)
                assert [each.target for each in read[1:]] == [b"/next"] * (len(read) - 1)
            if message.straight and whole[0] in (400, 501):  # where such a message ends, nobody can say
                assert (len(whole), read) == (1, [])
            seen.clear()


@fault("F2")
@through("lane")
@given(st.lists(messages(), min_size=4, max_size=10))
@settings(max_examples=25, deadline=None, phases=PHASES)
def test_the_lane_forwards_what_three_parsers_read_alike(batch: list[Message]) -> None:
    """However it is cut, bent or followed by more."""
    in_virtual_time(partial(check_lane, batch))


# ---- HTTP/2 -------------------------------------------------------------------------------------------


@frozen
class Section:
    """A request over HTTP/2: its fields, the pieces of its body, its trailers."""

    fields: Fields
    pieces: list[bytes]
    trailers: Fields
    cuts: tuple[int, ...]


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """Mostly good ones; a bend in a name or a value shows what must not get through."""
    names, bends = NAMES.map(bytes.lower), st.sampled_from(BENDS)
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3))
    fields = draw(st.lists(st.tuples(names, VALUES), max_size=3))
    if draw(st.booleans()):
        fields.append((b"content-length", b"%d" % len(b"".join(pieces))))
    path = USERS.encode() + draw(st.sampled_from([b"/", b"/", b"/", b""])) + draw(PATHS)
    pseudo = [
        (b":method", draw(st.sampled_from([name.encode() for name in METHODS]))),
        (b":scheme", b"http"),
        (b":authority", b"a"),
        (b":path", path),
    ]
    fields = [*pseudo, *fields]
    if not draw(st.integers(0, 2)):
        at = draw(st.integers(0, len(fields) - 1))
        name, value = fields[at]
        fields[at] = (name, value + draw(bends)) if draw(st.booleans()) else (name + draw(bends), value)
    trailers = draw(st.lists(st.tuples(names, VALUES), max_size=2)) if draw(st.booleans()) else []
    return Section(fields, pieces, trailers, tuple(draw(st.lists(st.integers(0, 10_000), max_size=6))))


def frames(client: H2Client, section: Section) -> bytes:
    """The request as it stands on the wire."""
    last = section.pieces[-1:] if not section.trailers else []
    client.replies[1] = H2Reply(1)
    client.h2.send_headers(1, section.fields, end_stream=not section.pieces and not section.trailers)
    for piece in section.pieces[: len(section.pieces) - len(last)]:
        client.h2.send_data(1, piece)
    for piece in last:
        client.h2.send_data(1, piece, end_stream=True)
    if section.trailers:
        client.h2.send_headers(1, section.trailers, end_stream=True)
    return client.h2.data_to_send()


async def answered(stage: Stage, section: Section, cuts: tuple[int, ...]) -> tuple[int, bool]:
    """The status of its reply, or that it was reset; its connection serves on."""
    caller = await stage.connect()
    assert isinstance(caller, H2Caller)
    client = caller.client
    await trio.sleep(0.01)  # the settings have been exchanged: nothing gets between the pieces
    data, at = frames(client, section), 0
    for cut in (*sorted({cut % len(data) for cut in cuts}), len(data)):
        await client.link.send(data[at:cut])
        at = cut
        await trio.sleep(0.001)
    reply = await client.reply(1)
    assert (await client.fetch(b"GET", b"/orchestrator/nobody")).status == 404
    caller.vanish()
    return reply.status, reply.reset == 1


async def check_h2(batch: list[Section]) -> None:
    seen: list[Reading] = []
    async with Door("h2").stage(reading(seen)) as stage:
        for section in batch:
            whole, read = await answered(stage, section, ()), list(seen)
            seen.clear()
            cut = await answered(stage, section, section.cuts)
            assert (cut, seen) == (whole, read) or section.trailers  # answered before they came
            for (status, _), requests in ((whole, read), (cut, seen)):
                meant = [(section.fields[0][1], b"".join(section.pieces))]
                assert [(each.method, each.body) for each in requests] == (meant if status == 200 else [])
            seen.clear()


@fault("F2")
@through("h2")
@given(st.lists(sections(), min_size=4, max_size=10))
@settings(max_examples=15, deadline=None, phases=PHASES)
def test_the_quart_route_forwards_what_three_parsers_read_alike(batch: list[Section]) -> None:
    """The same from HTTP/2, its fields and its body in any frames, cut anywhere."""
    in_virtual_time(partial(check_h2, batch))
