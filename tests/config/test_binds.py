"""Places to listen have one normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.binds import (
    AnyBind,
    InheritedBind,
    TcpBind,
    UnixBind,
    address_text,
    bind_address,
    is_local,
    parse_bind,
)

GOOD: list[tuple[str, AnyBind, str]] = [
    ("0.0.0.0:0", TcpBind("0.0.0.0", 0), "0.0.0.0:0"),
    (" LOCALHOST:65535 ", TcpBind("localhost", 65535), "localhost:65535"),
    ("[0::1]:8000", TcpBind("::1", 8000), "[::1]:8000"),
    ("[::]:8000", TcpBind("::", 8000), "[::]:8000"),
    ("unix:/run/gateway.sock", UnixBind("/run/gateway.sock"), "unix:/run/gateway.sock"),
    ("unix:/Run/a b:0", UnixBind("/Run/a b:0"), "unix:/Run/a b:0"),
    ("fd://3", InheritedBind(3), "fd://3"),
    ("fd://0012", InheritedBind(12), "fd://12"),
]

BAD = [
    ("8000", "HOST:PORT"),
    ("", "HOST:PORT"),
    (":8000", "HOST:PORT"),
    ("0.0.0.0:65536", "HOST:PORT"),
    ("0.0.0.0:8o", "HOST:PORT"),
    ("::1:8000", "host"),
    ("[fe80::1%eth0]:80", "IPv6"),
    ("unix:", "whole path"),
    ("unix:run/gateway.sock", "whole path"),
    ("unix:/run/", "whole path"),
    ("unix:/run/a\nb", "whole path"),
    ("unix:/run/a\x00b", "whole path"),
    ("unix:@abstract", "whole path"),
    ("unix:/" + "a" * 107, "107 bytes"),
    ("unix:/" + "ü" * 54, "107 bytes"),
    ("fd://", "descriptor"),
    ("fd:3", "descriptor"),
    ("fd://2", "descriptor"),
    ("fd://-3", "descriptor"),
    ("fd://name", "descriptor"),
    ("fd://99999999", "descriptor"),
]


@pytest.mark.parametrize(("text", "bind", "normal"), GOOD)
def test_a_place_to_listen(text: str, bind: AnyBind, normal: str) -> None:
    """However it is written, it is told in one form."""
    assert parse_bind(text) == bind
    assert bind_address(text) == normal
    assert parse_bind(normal) == bind


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_what_is_no_place_is_refused(text: str, reason: str) -> None:
    """With the end of a sentence that says how it is written."""
    with pytest.raises(ValueError, match=reason):
        parse_bind(text)


@given(st.text() | st.text().map("unix:/".__add__) | st.text().map("fd://".__add__))
def test_any_text_is_judged(text: str) -> None:
    """It has a normal form, which stays the same, or it is refused."""
    try:
        normal = bind_address(text)
    except ValueError:
        return
    assert bind_address(normal) == normal


def test_a_bound_address_reads_as_it_would_be_configured() -> None:
    """Whatever its family is."""
    assert address_text(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert address_text(("::1", 80)) == "[::1]:80"
    assert address_text(("unix:/run/x", 0)) == "unix:/run/x"


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("unix:/x", True),
        ("fd://3", False),
    ],
)
def test_a_place_is_local_when_nobody_else_can_be_there(text: str, local: bool) -> None:
    """Of an inherited socket nothing is known."""
    assert is_local(parse_bind(text)) is local
