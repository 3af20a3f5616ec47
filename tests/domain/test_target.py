from __future__ import annotations

from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.domain.target import join, match_segments, needs_care, raw_rest, replace_last, split_target
from trio_gateway.errors import BadRequest


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"/", (b"/", None, None)),
        (b"/a/b", (b"/a/b", None, None)),
        (b"/a?", (b"/a", b"", None)),
        (b"/a?x=1?&&=", (b"/a", b"x=1?&&=", None)),
        (b"/%2F%3F%23%25;//%C3%A9", (b"/%2F%3F%23%25;//%C3%A9", None, None)),
        (b"//host/x", (b"//host/x", None, None)),
        (b"http://example.com", (b"/", None, b"example.com")),
        (b"HTTP://Example.com:8080/a?b", (b"/a", b"b", b"Example.com:8080")),
        (b"https://[::1]:443?q", (b"/", b"q", b"[::1]:443")),
    ],
)
def test_splits(raw: bytes, parts: tuple[bytes, bytes | None, bytes | None]) -> None:
    """Origin-form and http(s) absolute-form are cut into raw parts, an empty query is not no query."""
    assert split_target(raw) == parts


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"*",
        b"a/b",
        b"?a",
        b"/a#b",
        b"/a?b#c",
        b"/a b",
        b"/a\tb",
        b"/a\x00",
        b"/a\x7f",
        b"/\xc3\xa9",
        b"/a?\xff",
        b"/a\n",
        b"/a?b\n",
        b"example.com:443",
        b"ftp://example.com/",
        b"file:///etc/passwd",
        b"http:///a",
        b"http://user@example.com/",
        b"http://user:pw@example.com/",
        b"http://example.com\\@evil/",
        b"http://[::1/",
        b"http://a:b/",
        b"http://a:123456/",
        b" /a",
    ],
)
def test_refuses_other_targets(raw: bytes) -> None:
    """No other form, userinfo, fragment, space, control or non-ASCII octet is taken."""
    with pytest.raises(BadRequest):
        split_target(raw)


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        (b"/", [b"", b""]),
        (b"/a/b", [b"", b"a", b"b"]),
        (b"/a/b/", [b"", b"a", b"b", b""]),
        (b"/a//b///c", [b"", b"a", b"b", b"c"]),
        (b"/a//", [b"", b"a", b""]),
        (b"//a", [b"", b"", b"a"]),
        (b"/%61%2D%7e", [b"", b"a-~"]),
        (b"/Users/%55", [b"", b"Users", b"U"]),
        (b"/a%2fb", [b"", b"a%2Fb"]),
        (b"/%c3%a9", [b"", b"%C3%A9"]),
        (b"/%2540%40", [b"", b"%2540@"]),
        (b"/%3f%23%25%20", [b"", b"%3F%23%25%20"]),
        (b"/.well-known/...", [b"", b".well-known", b"..."]),
        (b"/a;b=..", [b"", b"a;b=.."]),
    ],
)
def test_canonical_segments(path: bytes, segments: list[bytes]) -> None:
    """The copy has one spelling for each path: escapes decoded or upper-case, slashes merged, case kept."""
    assert match_segments(path) == segments


@pytest.mark.parametrize(
    "path",
    [
        b"/%00",
        b"/a\\b",
        b"/a%5cb",
        b"/a%5C",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/a%2",
        b"/.",
        b"/..",
        b"/./a",
        b"/a/../b",
        b"/a/%2e%2e/b",
        b"/a/.%2E",
        b"/a/..%2fb",
        b"/a/b%2F..",
        b"/a/x%2f.%2fy",
        b"/a/..;/b",
        b"/a/..;x=1",
        b"/a/.;/b",
        b"/a/..%3bx/b",
        b"/a/%2e;%2f",
        b"/\\..\\a",
    ],
)
def test_refuses_what_servers_read_differently(path: bytes) -> None:
    """Dot segments in every spelling, backslashes, NUL and broken escapes are refused."""
    with pytest.raises(BadRequest):
        match_segments(path)


_spelling = st.text("ab./;%\\25cef06").map(lambda text: b"/" + text.encode())


@given(_spelling)
def test_clean_paths_need_no_care(path: bytes) -> None:
    """A path that the quick check lets through has no escape, no empty segment inside and no dot segment."""
    if not needs_care(path):
        pieces = [segment.partition(b";")[0] for segment in path.split(b"/")]
        assert b"%" not in path
        assert b"\\" not in path
        assert b"" not in path.split(b"/")[1:-1]
        assert not {b".", b".."} & set(pieces)


@given(_spelling)
def test_accepted_paths_hold_no_dot_segment(path: bytes) -> None:
    """However a backend decodes an accepted path, there is no dot segment that it could resolve."""
    try:
        match_segments(path)
    except BadRequest:
        return
    decoded = unquote_to_bytes(path)
    assert not {b".", b".."} & {piece.partition(b";")[0] for piece in decoded.split(b"/")}
    assert b"\\" not in decoded
    assert b"\0" not in decoded


@given(_spelling)
def test_canonical_copies_are_canonical(path: bytes) -> None:
    """Reading the canonical copy again changes nothing."""
    try:
        segments = match_segments(path)
    except BadRequest:
        return
    assert match_segments(b"/".join(segments)) == segments


@pytest.mark.parametrize(
    ("path", "n", "rest"),
    [
        (b"/a/b", 0, b"/a/b"),
        (b"/a/b", 1, b"/b"),
        (b"/a/b", 2, b""),
        (b"/a/b/", 2, b"/"),
        (b"/a//b//c", 2, b"//c"),
        (b"/%61/%2F?", 1, b"/%2F?"),
        (b"/a", 2, b""),
    ],
)
def test_raw_rest(path: bytes, n: int, rest: bytes) -> None:
    """The rest is cut behind the n-th segment and stays raw, slashes in a row included."""
    assert raw_rest(path, n) == rest


@pytest.mark.parametrize(
    ("base", "base_query", "rest", "query", "target"),
    [
        (b"/v1", None, b"/users", None, b"/v1/users"),
        (b"/v1/", None, b"/users", None, b"/v1/users"),
        (b"/get", None, b"", None, b"/get"),
        (b"/get", None, b"/", None, b"/get/"),
        (b"/get/", None, b"", None, b"/get/"),
        (b"/get/", None, b"/", None, b"/get/"),
        (b"/v1", None, b"//x", None, b"/v1//x"),
        (b"/", None, b"", None, b"/"),
        (b"/", None, b"/x", None, b"/x"),
        (b"/x", b"a", b"", b"b", b"/x?a&b"),
        (b"/x", b"a", b"/y", None, b"/x/y?a"),
        (b"/x", None, b"", b"b=%20&&b=", b"/x?b=%20&&b="),
        (b"/x", None, b"", b"", b"/x?"),
        (b"/x", b"a", b"", b"", b"/x?a"),
        (b"/v1", None, b"/http://evil/%2F", None, b"/v1/http://evil/%2F"),
    ],
)
def test_join(base: bytes, base_query: bytes | None, rest: bytes, query: bytes | None, target: bytes) -> None:
    """Url path and raw rest meet in one slash, and both queries are sent, the url's first."""
    assert join(base, base_query, rest, query) == target


_rest = st.lists(st.sampled_from([b"a", b"", b"http:", b"@x", b"..a", b"%41"]), max_size=5)


@given(st.sampled_from([b"/", b"/v1", b"/v1/api/"]), _rest)
def test_join_keeps_the_base(base: bytes, pieces: list[bytes]) -> None:
    """Whatever the rest is, the target begins with the url's path and ends with the raw rest."""
    rest = b"".join(b"/" + piece for piece in pieces)
    target = join(base, None, rest, None)
    assert target.startswith(base)
    assert target.endswith(rest)


@pytest.mark.parametrize("base", [b"/", b"/v1", b"/v1/", b"/v1/api"])
@pytest.mark.parametrize("rest", [b"", b"/", b"/users", b"/users/7", b"/users/"])
def test_replace_last_is_urljoin(base: bytes, rest: bytes) -> None:
    """For plain paths the result is that of the old gateway's `urljoin`."""
    joined = urljoin("http://h" + base.decode(), rest.lstrip(b"/").decode())
    assert replace_last(base, None, rest, None) == urlsplit(joined).path.encode()


@pytest.mark.parametrize("rest", [b"//evil/x", b"/http://evil/x", b"/a:b", b"///"])
def test_replace_last_stays_in_its_directory(rest: bytes) -> None:
    """No rest leaves the url's directory, where `urljoin` would change the host."""
    target = replace_last(b"/v1/api", b"key=1", rest, b"q")
    assert target.startswith(b"/v1/")
    assert target.endswith(b"?key=1&q")
