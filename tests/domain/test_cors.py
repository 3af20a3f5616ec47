from __future__ import annotations

from typing import Any

import pytest

from trio_gateway.config.model import CorsConfig
from trio_gateway.domain.cors import Cors, compile_cors
from trio_gateway.domain.fields import RawHeaders

SHOP = b"https://shop.example"
VARY_PREFLIGHT = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")


def cors(origins: tuple[str, ...] = (SHOP.decode(),), **options: Any) -> Cors:
    return compile_cors(CorsConfig(origins, **options), ["GET", "POST"])


def asking(origin: bytes = SHOP, *more: tuple[bytes, bytes]) -> RawHeaders:
    return [(b"oRiGin", origin), (b"Access-Control-Request-Method", b"PUT"), *more]


def test_preflight() -> None:
    """The gateway says what the endpoint allows, and repeats the fields that are asked for."""
    asked = (b"access-control-request-headers", b"x-a, x-b")
    assert cors().preflight(b"OPTIONS", asking(SHOP, asked)) == [
        (b"Access-Control-Allow-Origin", SHOP),
        (b"Access-Control-Allow-Methods", b"GET, POST, HEAD"),
        (b"Access-Control-Allow-Headers", b"x-a, x-b"),
        (b"Access-Control-Max-Age", b"600"),
        VARY_PREFLIGHT,
    ]


def test_configured_preflight() -> None:
    """Configured methods, fields, credentials and age are what is said."""
    policy = cors(methods=("PUT",), headers=("X-A", "X-B"), credentials=True, max_age=0.0)
    assert policy.preflight(b"OPTIONS", asking()) == [
        (b"Access-Control-Allow-Origin", SHOP),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Allow-Methods", b"PUT"),
        (b"Access-Control-Allow-Headers", b"X-A, X-B"),
        (b"Access-Control-Max-Age", b"0"),
        VARY_PREFLIGHT,
    ]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        (b"GET", asking()),
        (b"OPTIONS", []),
        (b"OPTIONS", [(b"Origin", SHOP)]),
        (b"OPTIONS", [(b"Access-Control-Request-Method", b"PUT")]),
        (b"OPTIONS", [*asking(), (b"Origin", SHOP)]),
    ],
)
def test_no_preflight(method: bytes, headers: RawHeaders) -> None:
    """Only OPTIONS with one Origin and one Access-Control-Request-Method is a preflight."""
    assert cors().preflight(method, headers) is None


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"https://shop.example.evil", b"null", b"*", b""]
)
def test_foreign_origins(origin: bytes) -> None:
    """A foreign origin gets an answer without a permission."""
    assert cors().preflight(b"OPTIONS", asking(origin)) == [VARY_PREFLIGHT]
    assert cors().decorate([(b"Origin", origin)], []) == [(b"Vary", b"Origin")]


def test_asked_fields_are_names() -> None:
    """What is repeated from the request can only be field names."""
    answer = cors().preflight(b"OPTIONS", asking(SHOP, (b"Access-Control-Request-Headers", b'x"<y>')))
    assert answer is not None
    assert b"Access-Control-Allow-Headers" not in dict(answer)


def test_any_origin() -> None:
    """`*` allows all, and caches need not tell origins apart."""
    assert cors(("*",)).decorate([(b"Origin", SHOP)], [(b"A", b"1")]) == [
        (b"A", b"1"),
        (b"Access-Control-Allow-Origin", b"*"),
    ]


def test_replies_are_decorated() -> None:
    """Our permission takes the place of the upstream's; all other fields stay."""
    reply = [
        (b"access-control-allow-origin", b"*"),
        (b"Access-Control-Expose-Headers", b"X-A"),
        (b"Access-Control-Allow-CREDENTIALS", b"true"),
        (b"Vary", b"Accept"),
    ]
    assert cors(credentials=True).decorate([(b"Origin", SHOP)], reply) == [
        reply[1],
        reply[3],
        (b"Access-Control-Allow-Origin", SHOP),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Vary", b"Origin"),
    ]


@pytest.mark.parametrize("vary", [b"accept, ORIGIN", b"*", b"Origin"])
def test_vary_is_said_once(vary: bytes) -> None:
    """Where the reply varies by origin already, nothing is added."""
    assert cors().decorate([], [(b"Vary", vary)]) == [(b"Vary", vary)]


def test_replies_without_an_origin_vary_too() -> None:
    """A cache must not give a reply without a permission to a browser that would get one."""
    assert cors().decorate([], []) == [(b"Vary", b"Origin")]


def test_decorating_twice_changes_nothing() -> None:
    """A preflight's answer may be decorated like any reply."""
    answer = cors().preflight(b"OPTIONS", asking())
    assert answer is not None
    assert sorted(cors().decorate(asking(), answer)) == sorted(answer)
