"""How names, header fields and statuses are written in a config.

As in `config.values`: text in, value out, ValueError with the end of a sentence that quotes nothing.
Header rules are checked here so that no configured field can split a message (RFC 9112 2.2) or change
its framing.
"""

from __future__ import annotations

import re
from typing import Annotated

from trio_gateway.config.problems import did_you_mean

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)*")
_STATUS = re.compile(r"[2-5][0-9]{2}")
_STATUS_CLASS = re.compile(r"[1-5]xx")

_FAILURES = ("connect", "timeout", "reset", "gateway_error", "5xx")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def endpoint_name(text: str) -> str:
    """A route's name: letters, digits, `_` and `-`."""
    if not _NAME.fullmatch(text):
        raise ValueError("must consist of letters, digits, `_` and `-`")
    return text


def endpoint_version(text: str) -> str:
    """`v1`, `2`, `1.10`."""
    if not _VERSION.fullmatch(text):
        raise ValueError("must be a version such as v1, 2 or 1.10")
    return text


def token(text: str) -> str:
    """A token of RFC 9110 5.6.2: a method, a header name."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be a token: letters, digits and !#$%&'*+-.^_`|~")
    return text


def http_method(text: str) -> str:
    """One of the seven methods that endpoints serve; methods are case-sensitive (RFC 9110 9.1)."""
    if text not in _METHODS:
        raise ValueError(f"must be one of {', '.join(_METHODS)}{did_you_mean(text, _METHODS)}")
    return text


def header_name(text: str) -> str:
    """A header that a config may set, add, remove or use: none that frames messages or names hosts."""
    if token(text).lower() in _OURS:
        hint = " (see headers.host)" if text.lower() == "host" else ""
        raise ValueError(f"must not be `{text}`: the gateway writes this header itself{hint}")
    return text


def header_value(text: str) -> str:
    """A field value in printable ASCII (RFC 9110 5.5), without spaces around it."""
    if not _FIELD_VALUE.fullmatch(text):
        raise ValueError("must be printable ASCII without line breaks")
    return text.strip()


def status(text: str) -> int:
    """A final status, from 200 to 599."""
    if not _STATUS.fullmatch(text):
        raise ValueError("must be a status from 200 to 599")
    return int(text)


def body_status(text: str) -> int:
    """A final status whose reply may have a body (RFC 9110 15)."""
    if (code := status(text)) in (204, 205, 304):
        raise ValueError(f"must not be {code}: such a reply has no body")
    return code


def status_pattern(text: str) -> str:
    """One status or a class such as `2xx`."""
    pattern = text.lower()
    if not _STATUS.fullmatch(pattern) and not _STATUS_CLASS.fullmatch(pattern):
        raise ValueError("must be a status such as 204 or a class such as 2xx")
    return pattern


def failure(text: str) -> str:
    """A word of `failure_on`: a kind of failure, or a single status."""
    if text not in _FAILURES and not _STATUS.fullmatch(text):
        known = ", ".join(_FAILURES)
        raise ValueError(f"must be one of {known}, or a status{did_you_mean(text, _FAILURES)}")
    return text


def signing_secret(text: str) -> str:
    """A key for HMAC with SHA-256: 32 bytes or more (RFC 7518 3.2)."""
    if len(text.encode()) < 32:
        raise ValueError("must be at least 32 bytes long, for example from: openssl rand -hex 32")
    return text


EndpointName = Annotated[str, endpoint_name]
EndpointVersion = Annotated[str, endpoint_version]
Token = Annotated[str, token]
HttpMethod = Annotated[str, http_method]
HeaderName = Annotated[str, header_name]
HeaderValue = Annotated[str, header_value]
BodyStatus = Annotated[int, body_status]
StatusPattern = Annotated[str, status_pattern]
Failure = Annotated[str, failure]
SigningSecret = Annotated[str, signing_secret]
