"""Body decoders: payload in, payload out, and the exact end."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.wire.body import (
    ChunkedDecoder,
    LengthDecoder,
    MalformedBody,
    UntilCloseDecoder,
    decoder_of,
)
from trio_gateway.wire.response import parse_response
from trio_gateway.wire.serialise import chunk, last_chunk


def feed(decoder, data: bytes, size: int) -> bytes:
    """All payload of `data`, fed in pieces of `size` while the body lasts; what follows is put back."""
    payload, at = b"", 0
    while at < len(data) and not decoder.done:
        payload += decoder.feed(data[at : at + size])
        at += size
    decoder.leftover += data[at:]
    return payload


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 50), st.binary(max_size=20))
def test_chunks_come_back_whole_however_they_are_cut(pieces, size, behind):
    """What was chunked is decoded to the same bytes, and nothing behind it is taken."""
    decoder = ChunkedDecoder()
    data = b"".join(map(chunk, pieces)) + last_chunk([(b"X-Sum", b"1")]) + behind
    assert feed(decoder, data, size) == b"".join(pieces)
    assert decoder.done
    assert decoder.leftover == behind
    assert decoder.trailers == [(b"X-Sum", b"1")]


def test_extensions_are_dropped():
    """Chunk extensions end with the hop (RFC 9112 7.1.1)."""
    decoder = ChunkedDecoder()
    assert decoder.feed(b'3;a="b c"\r\nabc\r\n0;x\r\n\r\n') == b"abc"
    assert decoder.done


@pytest.mark.parametrize(
    "data",
    [
        b"0x3\r\nabc\r\n",
        b"1_0\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 3\r\nabc\r\n",
        b"\r\n",
        b"g\r\n",
        b"1" * 17 + b"\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\nabc\r\n",
        b"3;a\rb\r\nabc\r\n",
        b"3;a\nb\r\nabc\r\n",
        b"3;\x01\r\nabc\r\n",
        b"3;" + b"a" * 2000 + b"\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n folded: y\r\n\r\n",
        b"0\r\nX: a\0b\r\n\r\n",
        b"0\r\n" + b"X: yyyyyyyy\r\n" * 1000 + b"\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 5, 9999])
def test_broken_chunking_is_refused(data, size):
    """Every malformed size, ending and trailer is an error, at once or byte by byte."""
    with pytest.raises(MalformedBody):
        feed(ChunkedDecoder(), data, size)


@given(st.binary(max_size=60), st.integers(1, 9))
def test_garbage_never_raises_anything_else(data, size):
    """Fuzz: MalformedBody or a decoder that waits for more or is done."""
    decoder = ChunkedDecoder()
    try:
        feed(decoder, data, size)
    except MalformedBody:
        return
    assert decoder.done or not decoder.end()


@given(st.integers(0, 60), st.binary(max_size=60), st.integers(1, 20))
def test_a_length_is_taken_exactly(length, data, size):
    """Not a byte more than the length, and done with its last."""
    decoder = LengthDecoder(length)
    assert feed(decoder, data, size) == data[:length]
    assert decoder.done == (len(data) >= length)
    assert decoder.leftover == data[length:]
    assert decoder.end() == decoder.done


def test_until_close_ends_with_the_stream():
    """Without framing all bytes are body, and the end of the stream completes it."""
    decoder = UntilCloseDecoder()
    assert decoder.feed(b"abc") == b"abc"
    assert not decoder.done
    assert decoder.end()
    assert decoder.done


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
def test_an_independent_parser_reads_our_chunks(pieces):
    """h11 decodes what we encode."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    reader.next_event()
    reader.receive_data(b"".join(map(chunk, pieces)) + last_chunk([]))
    body = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        body += event.data
    assert body == b"".join(pieces)


@pytest.mark.parametrize(
    ("fields", "method", "expected"),
    [
        (b"Content-Length: 3\r\n", b"GET", LengthDecoder),
        (b"Content-Length: 0\r\n", b"GET", None),
        (b"Content-Length: 3\r\n", b"HEAD", None),
        (b"Transfer-Encoding: chunked\r\n", b"GET", ChunkedDecoder),
        (b"", b"GET", UntilCloseDecoder),
    ],
)
def test_a_head_says_what_reads_its_body(fields: bytes, method: bytes, expected: type | None) -> None:
    """None where nothing follows."""
    decoder = decoder_of(parse_response(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", method))
    assert decoder is None if expected is None else type(decoder) is expected
