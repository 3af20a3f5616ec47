"""Both WebSocket handshakes: what a client may ask, and what an upstream may answer to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from wsproto.handshake import generate_accept_token

from trio_gateway.config.model import Limits
from trio_gateway.errors import BadRequest, BadUpstreamReply, UpgradeRequired
from trio_gateway.wire.handshake import Offer, accept_of, accepted, asks_for_websocket, read_offer
from trio_gateway.wire.request import RequestHead, parse_request
from trio_gateway.wire.response import ResponseHead, parse_response

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASKED = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
ANSWERED = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}


def lines(fields: dict[str, str | None], extra: tuple[str, ...]) -> str:
    said = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "".join(f"{line}\r\n" for line in (*said, *extra)) + "\r\n"


def request(*extra: str, method: str = "GET", version: str = "1.1", **changed: str | None) -> RequestHead:
    fields = ASKED | {name.replace("_", "-"): value for name, value in changed.items()}
    head = f"{method} / HTTP/{version}\r\n{lines(fields, extra)}"
    return parse_request(head.encode("latin-1"), Limits())


def answer(*extra: str, version: str = "1.1", **changed: str | None) -> ResponseHead:
    fields = ANSWERED | {name.replace("_", "-"): value for name, value in changed.items()}
    head = f"HTTP/{version} 101 Switching Protocols\r\n{lines(fields, extra)}"
    return parse_response(head.encode("latin-1"), b"GET")


def offer(*subprotocols: bytes, extensions: tuple[bytes, ...] = ()) -> Offer:
    return Offer(KEY.encode(), frozenset(subprotocols), frozenset(extensions))


# ---- the client's side ------------------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket", "websocket/13, websocket"])
@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, upgrade"])
def test_a_handshake_is_recognised(upgrade: str, connection: str) -> None:
    """By a token of Upgrade, in any case and in any list."""
    assert asks_for_websocket(request(Upgrade=upgrade, Connection=connection))


@pytest.mark.parametrize("changed", [{"Upgrade": "h2c"}, {"Upgrade": None}, {"Connection": "close"}])
def test_other_requests_are_none(changed: dict[str, str | None]) -> None:
    """Without both fields it is a request like others."""
    assert not asks_for_websocket(request(**changed))


def test_http_1_0_has_no_upgrades() -> None:
    """There the field is ignored (RFC 9110 7.8)."""
    assert not asks_for_websocket(request(version="1.0"))


def test_an_offer_names_what_may_be_chosen() -> None:
    """Subprotocols with their case, extensions without parameters, over all fields of a name."""
    asked = request(
        "Sec-WebSocket-Protocol: chat, Soap",
        "sec-websocket-protocol: graphql-ws",
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits="10, 11", X-Foo',
        "Sec-WebSocket-Extensions: bar ; a=1, ,",
    )
    assert read_offer(asked) == offer(
        b"chat", b"Soap", b"graphql-ws", extensions=(b"permessage-deflate", b"x-foo", b"bar")
    )


@pytest.mark.parametrize("version", ["8", "12", "14", "013", "13, 8", "", None])
def test_another_version_is_426(version: str | None) -> None:
    """The answer names the one that we speak (RFC 6455 4.4)."""
    with pytest.raises(UpgradeRequired) as refused:
        read_offer(request(Sec_WebSocket_Version=version))
    assert (b"Sec-WebSocket-Version", b"13") in refused.value.headers
    assert (b"Upgrade", b"websocket") in refused.value.headers


@pytest.mark.parametrize("key", ["", "abc", KEY[:-1], KEY + "=", "*" * 22 + "==", f"{KEY}, {KEY}", None])
def test_a_key_is_sixteen_octets(key: str | None) -> None:
    """In base64, once."""
    with pytest.raises(BadRequest):
        read_offer(request(Sec_WebSocket_Key=key))


def test_two_keys_are_none() -> None:
    """Nobody can say which one would be answered."""
    with pytest.raises(BadRequest):
        read_offer(request(f"Sec-WebSocket-Key: {KEY}"))


@pytest.mark.parametrize(
    "how", [{"method": "POST"}, {"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}]
)
def test_a_handshake_is_a_get_without_a_body(how: dict[str, str]) -> None:
    """RFC 6455 4.1."""
    with pytest.raises(BadRequest):
        read_offer(request(**how))  # type: ignore[arg-type]


# ---- the upstream's side ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="])
def test_accept_answers_the_key(key: str) -> None:
    """As wsproto computes it too."""
    assert accept_of(key.encode()) == generate_accept_token(key.encode())


def test_an_answer_says_which_extensions_are_in_use() -> None:
    """They are among the offered ones; parameters are the endpoints' business."""
    given = answer("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
    assert accepted(given, offer(extensions=(b"permessage-deflate",))) == {b"permessage-deflate"}
    assert accepted(answer(), offer()) == frozenset()


@pytest.mark.parametrize("chosen", ["chat", "soap"])
def test_an_offered_subprotocol_may_be_chosen(chosen: str) -> None:
    """One of them, or none."""
    asked = offer(b"chat", b"soap")
    assert accepted(answer(f"Sec-WebSocket-Protocol: {chosen}"), asked) == frozenset()
    assert accepted(answer(), asked) == frozenset()


WRONG = {
    "no Accept": partial(answer, Sec_WebSocket_Accept=None),
    "another key's Accept": partial(answer, Sec_WebSocket_Accept=ACCEPT.lower()),
    "two Accepts": partial(answer, f"Sec-WebSocket-Accept: {ACCEPT}"),
    "no Upgrade": partial(answer, Upgrade=None),
    "Upgrade to h2c": partial(answer, Upgrade="h2c"),
    "two Upgrades": partial(answer, "Upgrade: h2c"),
    "no Connection": partial(answer, Connection=None),
    "Connection: close": partial(answer, Connection="close"),
    "HTTP/1.0": partial(answer, version="1.0"),
    "a subprotocol of another case": partial(answer, "Sec-WebSocket-Protocol: Chat"),
    "an unknown subprotocol": partial(answer, "Sec-WebSocket-Protocol: other"),
    "two subprotocols": partial(answer, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"),
    "a list of subprotocols": partial(answer, "Sec-WebSocket-Protocol: chat, chat"),
    "an extension unasked": partial(answer, "Sec-WebSocket-Extensions: permessage-deflate"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_answer_that_does_not_fit_is_refused(wrong: Callable[[], ResponseHead]) -> None:
    """Before the client is upgraded."""
    with pytest.raises(BadUpstreamReply):
        accepted(wrong(), offer(b"chat", extensions=(b"x-other",)))
