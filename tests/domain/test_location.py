from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.domain.fields import Hop
from trio_gateway.domain.location import LocationRewriter, compile_location
from trio_gateway.domain.target import join

HOP = Hop(b"id", b"192.0.2.7", False, b"https", b"gw.example", b"/gw/users", b"1.1")
AT_ROOT = compile_location(b"backend:8080", b"/", tls=False)
AT_V1 = compile_location(b"backend:8080", b"/v1", tls=False)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (b"http://backend:8080/v1/x?y#z", b"https://gw.example/gw/users/x?y#z"),
        (b"HTTP://Backend:8080/v1", b"https://gw.example/gw/users"),
        (b"//backend:8080/v1/", b"https://gw.example/gw/users/"),
        (b"https://backend:8080/v1/x", b"https://gw.example/gw/users/x"),
        (b"http://backend:8080/gw/users/x", b"https://gw.example/gw/users/x"),
        (b"/v1/x", b"/gw/users/x"),
        (b"/v1?a", b"/gw/users?a"),
        (b"/gw/users/x", b"/gw/users/x"),
    ],
)
def test_the_targets_own_urls(value: bytes, seen: bytes) -> None:
    """The target's authority and base path become the client's authority and prefix."""
    assert AT_V1.uri(value, HOP) == seen


def test_the_url_is_the_one_that_the_client_has_used() -> None:
    """A trusted proxy in front has told of another scheme and host than its own request's."""
    hop = evolve(HOP, scheme=b"http", host=b"10.0.0.5:8000", origin=b"https://shop.example")
    assert AT_V1.uri(b"http://backend:8080/v1/x", hop) == b"https://shop.example/gw/users/x"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x/y?/v1",
        b"?page=2",
        b"../x",
        b"mailto:a@b",
        b"/v10/x",
        b"/other",
        b"http://backend:8080/other",
        b"http://backend:8080",
        b"http://backend/v1/x",
        b"http://backend:8081/v1/x",
        b"http://backend.evil:8080/v1/x",
        b"http://u@backend:8080/v1/x",
        b"https://gw.example/v1/x",
        b"https://elsewhere/v1/x",
        b"ftp://backend:8080/v1/x",
    ],
)
def test_what_is_not_the_targets(value: bytes) -> None:
    """Relative references, other authorities, and what this route does not reach stay as they are."""
    assert AT_V1.uri(value, HOP) == value


@pytest.mark.parametrize(
    ("authority", "tls", "value", "seen"),
    [
        (b"api.example", True, b"https://api.example/x", b"https://gw.example/gw/users/x"),
        (b"api.example", True, b"https://api.example:443", b"https://gw.example/gw/users/"),
        (b"api.example", True, b"//api.example/x", b"https://gw.example/gw/users/x"),
        (b"api.example", True, b"http://api.example/x", b"http://api.example/x"),
        (b"api.example", False, b"https://api.example/x", b"https://api.example/x"),
        (b"[::1]:8080", False, b"http://[::1]:8080/x", b"https://gw.example/gw/users/x"),
        (b"[::1]", False, b"http://[::1]:80/x", b"https://gw.example/gw/users/x"),
    ],
)
def test_effective_ports(authority: bytes, tls: bool, value: bytes, seen: bytes) -> None:
    """Host and effective port make an authority, so upgrades to https don't go in circles."""
    assert compile_location(authority, b"/", tls=tls).uri(value, HOP) == seen


def test_preserved_host() -> None:
    """An upstream that was given the client's Host names itself by it."""
    rewriter = compile_location(b"backend:8080", b"/v1", tls=False, preserve_host=True)
    assert rewriter.uri(b"http://GW.example/v1/x", HOP) == b"https://gw.example/gw/users/x"
    assert rewriter.uri(b"http://gw.example/gw/users/x", HOP) == b"https://gw.example/gw/users/x"


def test_without_a_client_host() -> None:
    """Where the client named no host, it gets a path."""
    assert AT_V1.uri(b"http://backend:8080/v1/x", evolve(HOP, host=b"")) == b"/gw/users/x"


@pytest.mark.parametrize(
    "value", [b"/v1//evil.example/x", b"http://backend:8080/v1//evil.example", b"/v1", b"/v1/"]
)
def test_no_path_becomes_an_authority(value: bytes) -> None:
    """With an empty prefix the rest of a path is never read as another host."""
    seen = AT_V1.uri(value, evolve(HOP, prefix=b"", host=b""))
    assert seen.startswith(b"/")
    assert not seen.startswith(b"//")


@given(
    st.sampled_from([b"/", b"/v1", b"/v1/", b"/a/b"]),
    st.sampled_from([b"", b"/", b"/x", b"/x/y", b"/x//y"]),
    st.sampled_from([None, b"q=1"]),
)
def test_rewriting_inverts_joining(base: bytes, rest: bytes, query: bytes | None) -> None:
    """A redirect to where a request was sent leads the client to where it had asked, but for a last slash."""
    rewriter = compile_location(b"backend:8080", base, tls=False)
    asked = join(HOP.prefix, None, rest, query)
    seen = rewriter.uri(b"http://backend:8080" + join(base, None, rest, query), HOP)
    assert seen.replace(b"/?", b"?").rstrip(b"/") == (b"https://gw.example" + asked).replace(
        b"/?", b"?"
    ).rstrip(b"/")


@pytest.mark.parametrize(
    ("rewriter", "path", "seen"),
    [
        (AT_V1, b"/v1", b"/gw/users"),
        (AT_V1, b"/v1/", b"/gw/users"),
        (AT_V1, b"/v1/x", b"/gw/users/x"),
        (AT_V1, b"/", b"/gw/users"),
        (AT_V1, b"/v", b"/v"),
        (AT_V1, b"/v10", b"/v10"),
        (AT_V1, b"/gw/users/x", b"/gw/users/x"),
        (AT_ROOT, b"/", b"/gw/users"),
        (AT_ROOT, b"/x", b"/gw/users/x"),
    ],
)
def test_cookie_paths(rewriter: LocationRewriter, path: bytes, seen: bytes) -> None:
    """A cookie for the base path or more is for the prefix, so no other endpoint's requests carry it."""
    for before, after in (
        (b"a=1; Path=", b"; Secure"),
        (b"a=/v1;path = ", b" ;HttpOnly"),
        (b"a=; PATH=", b""),
    ):
        assert rewriter.cookie(before + path + after, HOP) == before + seen + after.replace(b" ;", b";")


def test_cookies_without_a_path() -> None:
    """A cookie that names no path stays as it is."""
    assert AT_V1.cookie(b"a=1; Path=; Secure", HOP) == b"a=1; Path=; Secure"
    assert AT_V1.cookie(b"path=/v1; Domain=x; Expires=Mon, 01 Jan 2029", HOP) == (
        b"path=/v1; Domain=x; Expires=Mon, 01 Jan 2029"
    )


def test_cookies_without_a_prefix() -> None:
    """With an empty prefix the whole of a host is the endpoint's."""
    assert AT_V1.cookie(b"a=1; Path=/v1", evolve(HOP, prefix=b"")) == b"a=1; Path=/"
