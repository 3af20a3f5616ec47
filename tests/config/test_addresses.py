"""Urls, hosts, networks and paths have one normal form."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config import addresses

GOOD: list[tuple[Callable[[str], Any], str, Any]] = [
    (addresses.http_url, "HTTP://EXAMPLE.com:80", "http://example.com/"),
    (addresses.http_url, "https://Example.com:443/V1", "https://example.com/V1"),
    (addresses.http_url, "https://example.com:80/", "https://example.com:80/"),
    (addresses.http_url, "http://h:/x?a=1&b", "http://h/x?a=1&b"),
    (addresses.http_url, "http://[0:0::1]:8080", "http://[::1]:8080/"),
    (addresses.http_url, "http://my_service.local./a%20b//c", "http://my_service.local./a%20b//c"),
    (addresses.http_url, "http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
    (addresses.origin, "*", "*"),
    (addresses.origin, "null", "null"),
    (addresses.origin, "HTTPS://App.Example.com:443", "https://app.example.com"),
    (addresses.origin, "capacitor://localhost", "capacitor://localhost"),
    (addresses.host_pattern, "*.Example.com", "*.example.com"),
    (addresses.host_pattern, "[::1]", "[::1]"),
    (addresses.network, "10.0.0.0/8", ip_network("10.0.0.0/8")),
    (addresses.network, "unix:", "unix:"),
    (addresses.network, "::1", ip_network("::1/128")),
    (addresses.network, "2001:0DB8::/32", ip_network("2001:db8::/32")),
    (addresses.bare_host, "LocalHost", "localhost"),
    (addresses.path_prefix, "/api/v1/", "/api/v1"),
    (addresses.path_prefix, "/", "/"),
    (addresses.probe_path, "/health?deep=1", "/health?deep=1"),
    (addresses.probe_path, "http://OTHER/ping", "http://other/ping"),
    (addresses.probe_path, "ü", "%C3%BC"),
]

BAD: list[tuple[Callable[[str], Any], str, str]] = [
    (addresses.http_url, "", "http://"),
    (addresses.http_url, "example.com", "http://"),
    (addresses.http_url, "ftp://example.com", "http://"),
    (addresses.http_url, "http:///x", "http://"),
    (addresses.http_url, "http://:80/", "host"),
    (addresses.http_url, "http://user:secret@example.com/", "user name"),
    (addresses.http_url, "http://example.com/#x", "fragment"),
    (addresses.http_url, "http://example.com/#", "fragment"),
    (addresses.http_url, "http://exa mple.com/", "spaces"),
    (addresses.http_url, "http://example.com\\@evil/", "backslash"),
    (addresses.http_url, "http://example.com/\n", "control"),
    (addresses.http_url, "http://example.com:0/", "port"),
    (addresses.http_url, "http://example.com:99999/", "port"),
    (addresses.http_url, "http://example.com:8o/", "port"),
    (addresses.http_url, "http://example..com/", "host"),
    (addresses.http_url, "http://[::1/", "url"),
    (addresses.http_url, "http://[::g]/", "IPv6|url"),
    (addresses.http_url, "http://[fe80::1%25eth0]/", "zone|IPv6"),
    (addresses.http_url, "http://example.com/a/../b", "segments"),
    (addresses.http_url, "http://example.com/%2E%2e/b", "segments"),
    (addresses.http_url, "http://example.com/%zz", "escape"),
    (addresses.http_url, "http://" + "a" * 300, "host"),
    (addresses.origin, "https://app.example.com/", "origin"),
    (addresses.origin, "app.example.com", "origin"),
    (addresses.origin, "https://*.example.com", "host"),
    (addresses.host_pattern, "example.com:80", "host"),
    (addresses.host_pattern, "*", "host"),
    (addresses.network, "10.0.0.1/8", r"did you mean `10\.0\.0\.0/8`"),
    (addresses.network, "10.0.0.0/33", "network"),
    (addresses.network, "localhost", "network"),
    (addresses.path_prefix, "", "begins with"),
    (addresses.path_prefix, "api", "begins with"),
    (addresses.path_prefix, "/a//b", "begins with"),
    (addresses.path_prefix, "/a%20b", "escapes"),
    (addresses.path_prefix, "/a?b", "begins with"),
    (addresses.path_prefix, "/a/../b", "segments"),
    (addresses.probe_path, "/a b", "path"),
    (addresses.probe_path, "/a#b", "path"),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_an_address_has_one_normal_form(parse: Callable[[str], Any], text: str, value: Any) -> None:
    """Two spellings of one thing are equal once they are read."""
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_the_normal_form_stays(parse: Callable[[str], Any], text: str, value: Any) -> None:
    """Reading what was read changes nothing."""
    assert not isinstance(value, str) or parse(value) == value


@pytest.mark.parametrize(("parse", "text", "reason"), BAD)
def test_an_ambiguous_address_is_refused(parse: Callable[[str], Any], text: str, reason: str) -> None:
    """What two programs could read in two ways is an error that says why."""
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_no_message_quotes_a_password() -> None:
    """A refused url does not put its password into the log."""
    with pytest.raises(ValueError) as refused:
        addresses.http_url("http://user:hunter2@example.com/")
    assert "hunter2" not in str(refused.value)


@given(st.text() | st.text(alphabet="htp:/@[]#?%.*\\0129af ", max_size=30).map("http://".__add__))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes a parser fail in another way, and every accepted url has a host and a path."""
    for parse in (addresses.origin, addresses.network, addresses.path_prefix):
        _try(parse, text)
    url = _try(addresses.http_url, text)
    assert url is None or (url.isascii() and url.count("/") >= 3)


def _try(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_name_and_address(host: str, loopback: bool) -> None:
    """What only this machine can reach."""
    assert addresses.is_loopback(host) is loopback
