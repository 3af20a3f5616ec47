"""The frame scanner: what goes on, what ends a direction, and that cuts in the stream change neither."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Reader,
    close,
    frame,
)
from trio_gateway.wire.websocket import (
    NO_STATUS,
    PROTOCOL_ERROR,
    TOO_BIG,
    FrameScanner,
    close_frame,
)

DEFLATE = frozenset((b"permessage-deflate",))
NONE: frozenset[bytes] = frozenset()
client, server = partial(frame, masked=True), partial(frame, masked=False)


def scanner(*, masked: bool = True, limit: int = 1000, extensions: frozenset[bytes] = NONE) -> FrameScanner:
    return FrameScanner(masked=masked, max_message=limit, extensions=extensions)


def fed(judge: FrameScanner, data: bytes, size: int = 1 << 20) -> bytes:
    """What goes on of `data`, fed in pieces of `size`."""
    return b"".join(judge.feed(data[at : at + size]) for at in range(0, len(data), size))


def state(judge: FrameScanner) -> tuple[object, ...]:
    return judge.over, judge.close_code, judge.violation, judge.at_boundary


# ---- what passes ------------------------------------------------------------------------------------

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 70000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("masked", [True, False])
def test_every_length_passes_unchanged(length: int, masked: bool) -> None:
    """A frame of each encoding of its length goes on, octet for octet."""
    data = frame(BINARY, bytes(length), masked=masked) + frame(PING, b"x", masked=masked)
    judge = scanner(masked=masked, limit=1 << 20)
    assert fed(judge, data) == data
    assert state(judge) == (False, None, None, True)


def test_what_is_fed_comes_back_as_it_is() -> None:
    """Nothing is copied where a piece ends inside a payload or with a frame."""
    data = client(BINARY, bytes(100))
    assert scanner().feed(data) is data
    assert scanner().feed(data[:50]) == data[:50]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1009, 1011, 1014, 3000, 3999, 4000, 4999])
@pytest.mark.parametrize("masked", [True, False])
def test_a_close_frame_is_the_last_that_passes(code: int, masked: bool) -> None:
    """Its code is seen through the mask; what stands behind it goes nowhere (RFC 6455 5.5.1)."""
    judge = scanner(masked=masked)
    goodbye = close(code, b"why", masked=masked)
    assert fed(judge, goodbye + frame(TEXT, b"more", masked=masked)) == goodbye
    assert state(judge) == (True, code, None, True)
    assert judge.feed(b"more") == b""


def test_a_close_frame_without_a_code() -> None:
    """It passes, and stands for 1005."""
    judge = scanner()
    assert fed(judge, client(CLOSE)) == client(CLOSE)
    assert judge.close_code == NO_STATUS


def test_control_frames_pass_between_fragments() -> None:
    """They belong to no message (RFC 6455 5.4)."""
    data = client(TEXT, b"a", fin=False) + client(PING) + client(CONTINUATION, b"b", fin=False)
    data += client(PONG, b"p") + client(CONTINUATION, b"c")
    judge = scanner()
    assert fed(judge, data) == data
    assert not judge.over


# ---- what does not ----------------------------------------------------------------------------------

VIOLATIONS = {
    "not masked by a client": server(TEXT, b"x"),
    "reserved opcode 3": client(3),
    "reserved opcode 7": client(7, b"x"),
    "reserved opcode 11": client(11),
    "reserved opcode 15": client(15),
    "rsv1 without an extension": client(TEXT, b"x", rsv=4),
    "rsv2": client(TEXT, b"x", rsv=2),
    "rsv3": client(TEXT, b"x", rsv=1),
    "rsv in a ping": client(PING, rsv=4),
    "a ping in fragments": client(PING, fin=False),
    "a close in fragments": client(CLOSE, fin=False),
    "a ping of 126": client(PING, bytes(126)),
    "a close of 126": client(CLOSE, (1000).to_bytes(2, "big") + bytes(124)),
    "125 in two octets": client(TEXT, bytes(125), width=2),
    "0 in eight octets": client(TEXT, width=8),
    "65535 in eight octets": client(TEXT, bytes(65535), width=8),
    "the length's top bit": client(TEXT, length=1 << 63, width=8),
    "a continuation of nothing": client(CONTINUATION, b"x"),
    "a continuation in fragments of nothing": client(CONTINUATION, b"x", fin=False),
    "a close of one octet": client(CLOSE, b"\x03"),
}
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
for invalid in INVALID_CODES:
    VIOLATIONS[f"close code {invalid}"] = close(invalid, masked=True)


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize("bad", VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_stops_before_its_frame(bad: bytes, size: int) -> None:
    """What stood before it goes on to the last octet, of the frame itself nothing does."""
    good = client(BINARY, b"good")
    judge = scanner(limit=1 << 20)
    assert fed(judge, good + bad + good, size) == good
    assert judge.over
    assert judge.at_boundary
    assert judge.violation is not None
    assert judge.violation.code == PROTOCOL_ERROR


def test_a_server_must_not_mask() -> None:
    """RFC 6455 5.1."""
    judge = scanner(masked=False)
    assert fed(judge, client(TEXT, b"x")) == b""
    assert judge.violation is not None


def test_messages_must_not_be_interleaved() -> None:
    """A new message inside another one ends the direction."""
    first = client(TEXT, b"a", fin=False)
    judge = scanner()
    assert fed(judge, first + client(TEXT, b"b")) == first
    assert judge.violation is not None


def test_a_message_behind_a_finished_one_may_begin() -> None:
    """Fragments end with FIN, and then nothing is left to continue."""
    data = client(TEXT, b"a", fin=False) + client(CONTINUATION, b"b") + client(BINARY, b"c")
    judge = scanner()
    assert fed(judge, data + client(CONTINUATION)) == data
    assert judge.violation is not None


# ---- the size of a message --------------------------------------------------------------------------


def test_a_message_up_to_the_limit_passes() -> None:
    """The limit counts payload, without headers and control frames."""
    data = client(TEXT, bytes(600), fin=False) + client(PING, bytes(125)) + client(CONTINUATION, bytes(400))
    judge = scanner(limit=1000)
    assert fed(judge, data + data) == data + data


@pytest.mark.parametrize(
    "last", [client(CONTINUATION, bytes(401)), client(CONTINUATION, bytes(401), fin=False)]
)
def test_fragments_beyond_the_limit_stop_before_the_one_too_many(last: bytes) -> None:
    """All fragments of a message count together; 1009."""
    first = client(TEXT, bytes(600), fin=False)
    judge = scanner(limit=1000)
    assert fed(judge, first + last) == first
    assert judge.violation is not None
    assert judge.violation.code == TOO_BIG


def test_a_frame_beyond_the_limit_stops_at_its_header() -> None:
    """Its header is enough: none of its payload is waited for."""
    judge = scanner(limit=1000)
    assert judge.feed(client(BINARY, length=1 << 62, width=8)) == b""
    assert judge.violation is not None
    assert judge.violation.code == TOO_BIG


# ---- extensions -------------------------------------------------------------------------------------


def test_deflate_marks_the_first_frame_of_a_message() -> None:
    """RSV1 may stand there and nowhere else (RFC 7692 6.1)."""
    data = client(TEXT, b"a", rsv=4, fin=False) + client(CONTINUATION, b"b") + client(BINARY, b"c", rsv=4)
    judge = scanner(extensions=DEFLATE)
    assert fed(judge, data) == data
    for bad in (client(TEXT, rsv=2), client(TEXT, rsv=6), client(PING, rsv=4), client(CLOSE, rsv=4)):
        judge = scanner(extensions=DEFLATE)
        assert fed(judge, bad) == b""
        assert judge.violation is not None
    judge = scanner(extensions=DEFLATE)
    assert fed(judge, client(TEXT, fin=False) + client(CONTINUATION, rsv=4)) == client(TEXT, fin=False)


def test_an_extension_that_we_do_not_know_may_use_any_reserved_bit() -> None:
    """Its endpoints know what the bits mean."""
    data = client(TEXT, b"a", rsv=7, fin=False) + client(CONTINUATION, b"b", rsv=2) + client(PING, rsv=1)
    judge = scanner(extensions=DEFLATE | {b"x-unheard-of"})
    assert fed(judge, data) == data


# ---- stopping ---------------------------------------------------------------------------------------


def test_a_stop_between_frames_is_at_once() -> None:
    """Nothing more goes on, and half a header that was held goes nowhere."""
    judge = scanner()
    data = client(TEXT, b"abc")
    assert judge.feed(data + data[:1]) == data
    judge.stop()
    assert judge.over
    assert judge.at_boundary
    assert judge.feed(data[1:]) == b""


def test_a_stop_inside_a_frame_is_at_its_end() -> None:
    """The rest of the frame goes on, however it comes, and nothing behind it."""
    data = client(TEXT, b"abcdef")
    judge = scanner()
    assert judge.feed(data[:7]) == data[:7]
    judge.stop()
    assert not judge.over
    assert judge.feed(data[7:8]) == data[7:8]
    assert judge.feed(data[8:] + data) == data[8:]
    assert judge.over
    assert judge.at_boundary


# ---- any cut, and another reader --------------------------------------------------------------------


_TEXTS = st.one_of(st.text("abc", max_size=8).map(str.encode), st.just(b"x" * 130))
_CODES = st.sampled_from([1000, 1006, 2999, 4000]).map(lambda code: code.to_bytes(2, "big"))
_PARTS = st.one_of(
    st.tuples(st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, 3, 12]), _TEXTS),
    st.tuples(st.just(CLOSE), st.one_of(_CODES, _TEXTS)),
)


def _frames(*, masked: bool) -> st.SearchStrategy[bytes]:
    """Frames, most of them well-formed, whose header is whole; texts are UTF-8, which nobody here judges."""
    return st.builds(
        lambda part, **how: frame(*part, **how),
        _PARTS,
        masked=st.sampled_from([masked] * 9 + [not masked]),
        fin=st.sampled_from([True, True, False]),
        rsv=st.sampled_from([0] * 9 + [4]),
    )


@st.composite
def _cut(draw: st.DrawFn) -> tuple[bool, bytes, list[bytes]]:
    """A direction's bytes, whole and in pieces."""
    masked = draw(st.booleans())
    data = b"".join(draw(st.lists(_frames(masked=masked), max_size=8)))
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    return masked, data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(_cut())
@example((False, server(BINARY, b"ab") + close(1000, masked=False), [b"\x82\x02a", b"b\x88\x02\x03\xe8"]))
def test_cuts_change_nothing(case: tuple[bool, bytes, list[bytes]]) -> None:
    """However the bytes come, the same go on, and the same is found."""
    masked, data, pieces = case
    whole, cut = scanner(masked=masked), scanner(masked=masked)
    assert b"".join(map(cut.feed, pieces)) == whole.feed(data)
    assert state(cut) == state(whole)


@given(_cut())
@example((True, close(1000, masked=True) + client(3), []))
def test_wsproto_sees_the_same(case: tuple[bool, bytes, list[bytes]]) -> None:
    """What goes on is valid to an independent reader, and what stops us stops it."""
    masked, data, _ = case
    judge = scanner(masked=masked)
    passed = Reader(from_client=masked).feed(judge.feed(data))
    assert passed.failed is None
    everything = Reader(from_client=masked).feed(data)
    assert (everything.failed is None) is (judge.violation is None)
    assert passed.messages == everything.messages
    assert judge.close_code == (everything.close[0] if everything.close else None)


# ---- frames of our own ------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [True, False])
def test_our_close_frame_reads_as_what_it_says(masked: bool) -> None:
    """Masked for a server, bare for a client; empty where there is no code to say."""
    said = Reader(from_client=masked).feed(close_frame(1009, "message too big", masked=masked))
    assert said.close == (1009, "message too big")
    empty = Reader(from_client=masked).feed(close_frame(NO_STATUS, masked=masked))
    assert empty.close == (NO_STATUS, "")


def test_our_masks_differ() -> None:
    """A key is new for each frame (RFC 6455 5.3)."""
    assert len({close_frame(1001, masked=True) for _ in range(20)}) == 20
