"""The TLS handshake that a client's connection begins with: bounded, counted, its failures told apart."""

from __future__ import annotations

import ssl

import structlog
import trio

from trio_gateway.errors import BadRequest
from trio_gateway.observe.metrics import TlsStats
from trio_gateway.proxy.identity import identity_of
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.termination import Termination
from trio_gateway.proxy.tls_link import TlsLink

log = structlog.get_logger("trio_gateway.server")

_PLAIN = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"))
_NOTHING_IN_COMMON = frozenset(
    (
        "INAPPROPRIATE_FALLBACK",
        "NO_PROTOCOLS_AVAILABLE",
        "NO_SHARED_CIPHER",
        "NO_SHARED_GROUPS",
        "NO_SHARED_SIGNATURE_ALGORITHMS",
        "NO_SUITABLE_KEY_SHARE",
        "NO_SUITABLE_SIGNATURE_ALGORITHM",
        "UNSUPPORTED_PROTOCOL",
        "VERSION_TOO_LOW",
        "WRONG_SSL_VERSION",
    )
)
_NOT_VERIFIED = frozenset(("CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"))


async def shake_hands(link: Link, termination: Termination, timeout: float, stats: TlsStats) -> TlsLink:
    """A TLS link over `link`, whose first bytes are due within `timeout` seconds.

    Raises BadRequest when plain HTTP came: `link` can still answer it. Raises OSError for every other
    failure. All of them are counted.
    """
    secure = TlsLink(link, termination.context)
    try:
        with trio.fail_after(timeout):
            await secure.handshake()
    except trio.TooSlowError:
        raise _failed(link, stats, "timeout") from None
    except ssl.SSLError as error:
        reason = reason_of(error)
        failure = _failed(link, stats, reason, error.reason)
        if reason == "plain_http":
            raise BadRequest("This port speaks TLS: use https") from None
        raise failure from None
    except OSError:
        raise _failed(link, stats, "closed") from None
    stats.shaken(secure.version)
    if certificate := secure.peer_certificate:
        secure.client_certificate = identity_of(certificate)
    return secure


def reason_of(error: ssl.SSLError) -> str:
    """Why a handshake failed, in one of a few words of ours."""
    reason = error.reason or ""
    if reason in _PLAIN:
        return "plain_http"
    if reason in _NOTHING_IN_COMMON:
        return "nothing_in_common"
    if reason in _NOT_VERIFIED:
        return "client_certificate"
    if "_ALERT_" in reason:
        return "refused_by_client"
    if isinstance(error, ssl.SSLEOFError):
        return "closed"
    return "malformed"


def _failed(link: Link, stats: TlsStats, reason: str, detail: str | None = None) -> OSError:
    stats.failed(reason)
    log.debug("TLS handshake failed", peer=link.peer[0], reason=reason, openssl=detail)
    return ConnectionAbortedError(f"TLS handshake: {reason}")
