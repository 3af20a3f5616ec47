"""Field sections of HTTP/2 requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.server.h2_head import H2Head, MalformedFields, read_head, read_trailers

Fields = list[tuple[bytes, bytes]]

BASE: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/x?y")]


def test_a_head_in_the_order_of_http_1_1() -> None:
    """The authority becomes the first field, Host; the others keep their order and duplicates."""
    head = read_head([*BASE, (b"x", b"1"), (b"y", b""), (b"x", b"\xff\t2")])
    expected = [(b"host", b"a.test"), (b"x", b"1"), (b"y", b""), (b"x", b"\xff\t2")]
    assert head == H2Head(b"GET", b"/x?y", expected)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], [b"a.test"]),
        ([b"a.test"], [b"a.test"]),
        ([b"A.Test"], [b"a.test"]),
        ([b"b.test"], [b"a.test", b"b.test"]),
        ([b"a.test", b"a.test"], [b"a.test", b"a.test", b"a.test"]),
    ],
)
def test_hosts_that_disagree_all_stand(hosts: list[bytes], expected: list[bytes]) -> None:
    """One Host is left where the client said one thing; otherwise the head shows that it did not."""
    head = read_head([*BASE, *((b"host", host) for host in hosts)])
    assert [value for name, value in head.headers if name == b"host"] == expected


def test_cookie_crumbs_are_one_field() -> None:
    """Crumbs are joined in order (RFC 9113 8.2.3)."""
    head = read_head([*BASE, (b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")])
    assert head.headers[1:] == [(b"x", b"1"), (b"cookie", b"a=1; b=2; c=3")]


def without(name: bytes) -> Fields:
    """A head that lacks one pseudo-header field."""
    return [field for field in BASE if field[0] != name]


@pytest.mark.parametrize(
    "fields",
    [
        without(b":method"),
        without(b":scheme"),
        without(b":path"),
        [*without(b":path"), (b":path", b"")],
        [*without(b":scheme"), (b":scheme", b"ftp")],
        [*BASE, (b":path", b"/again")],
        [*BASE, (b":status", b"200")],
        [*BASE, (b":protocol", b"websocket")],
        [*BASE[:3], (b"x", b"1"), BASE[3]],
        [*BASE[:3], (b"cookie", b"a=1"), BASE[3]],
        [*without(b":path"), (b":path", b"/a\r\nx: y")],
        [*BASE, (b"transfer-encoding", b"chunked")],
        [*BASE, (b"te", b"trailers, gzip")],
        [*BASE, (b"Upper", b"1")],
        [*BASE, (b"", b"1")],
        [*BASE, (b"x", b"1 ")],
        [*BASE, (b"x", b"\x7f")],
        [],
    ],
)
def test_malformed_sections_raise(fields: Fields) -> None:
    """What RFC 9113 8.2 and 8.3 forbid is told apart from what is merely wrong."""
    with pytest.raises(MalformedFields):
        read_head(fields)


def test_connect_needs_neither_scheme_nor_path() -> None:
    """CONNECT is well-formed, so that it can be answered."""
    assert read_head([(b":method", b"CONNECT"), (b":authority", b"a:1")]).path == b""


def test_trailers_are_plain_fields() -> None:
    """A trailer section has no pseudo-header and no connection fields."""
    assert read_trailers([(b"x-sum", b"1")]) == [(b"x-sum", b"1")]
    for field in ((b":path", b"/"), (b"connection", b"close"), (b"X", b"1")):
        with pytest.raises(MalformedFields):
            read_trailers([field])


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=6))
def test_nothing_else_is_raised_and_no_line_break_passes(fields: Fields) -> None:
    """Whatever a client sends is a head without control characters, or MalformedFields."""
    try:
        head = read_head([*BASE, *fields])
    except MalformedFields:
        return
    assert not any(set(name + value) & {0, 10, 13} for name, value in head.headers)
