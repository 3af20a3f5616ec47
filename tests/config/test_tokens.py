"""Names, header fields and statuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trio_gateway.config import tokens

GOOD: list[tuple[Callable[[str], Any], str, Any]] = [
    (tokens.endpoint_name, "users_V2-b", "users_V2-b"),
    (tokens.endpoint_version, "v1", "v1"),
    (tokens.endpoint_version, "1.10", "1.10"),
    (tokens.token, "X-A!", "X-A!"),
    (tokens.header_name, "Authorization", "Authorization"),
    (tokens.header_value, " a\tb ", "a\tb"),
    (tokens.header_value, "", ""),
    (tokens.http_method, "PATCH", "PATCH"),
    (tokens.status, "200", 200),
    (tokens.body_status, "503", 503),
    (tokens.status_pattern, "2XX", "2xx"),
    (tokens.status_pattern, "404", "404"),
    (tokens.failure, "gateway_error", "gateway_error"),
    (tokens.failure, "429", "429"),
]

BAD: list[tuple[Callable[[str], Any], str, str]] = [
    *[(tokens.endpoint_name, text, "letters") for text in ("", "a b", "a/b", "ü", "a\n")],
    *[(tokens.endpoint_version, text, "version") for text in ("", "v", "1.", "beta", "v1\n", "V1", "١")],
    *[(tokens.token, text, "token") for text in ("", "a b", "a:", "ü", "a\r\n")],
    *[(tokens.header_name, text, "itself") for text in ("Content-Length", "transfer-encoding", "Upgrade")],
    (tokens.header_name, "Host", "headers.host"),
    *[(tokens.header_value, text, "printable") for text in ("a\r\nb", "a\nb", "\0", "ü", "\x7f")],
    (tokens.http_method, "get", "did you mean `GET`"),
    (tokens.http_method, "TRACE", "must be one of"),
    *[(tokens.status, text, "200 to 599") for text in ("199", "600", "2xx", "20", "2000")],
    *[(tokens.body_status, text, "no body") for text in ("204", "205", "304")],
    *[(tokens.status_pattern, text, "status") for text in ("6xx", "2x", "*")],
    (tokens.signing_secret, "x" * 31, "at least 32 bytes"),
    (tokens.failure, "timeuot", "did you mean `timeout`"),
    (tokens.failure, "4xx", "did you mean `5xx`"),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_a_legal_word_is_read(parse: Callable[[str], Any], text: str, value: Any) -> None:
    """Words that the grammar allows are kept."""
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text", "reason"), BAD)
def test_an_illegal_word_is_refused(parse: Callable[[str], Any], text: str, reason: str) -> None:
    """No configured word can split a message, change its framing or name what does not exist."""
    with pytest.raises(ValueError, match=reason):
        parse(text)
