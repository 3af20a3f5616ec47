"""One tree of errors. Each class knows its answer (`status`, `code`), who is to blame (`source`)
and whether sending the request again could do harm (`retry_safe`).

`detail` is what the client reads; `cause` is for the log only, so that an address or a library's
message never leaves the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar, Literal

Source = Literal["client", "gateway", "upstream"]
FailureKind = Literal["connect", "timeout", "reset"]


class GatewayError(Exception):
    """The base of all errors that end an exchange with an answer of ours.

    `headers` are fields that the answer must carry (`Allow`, `Retry-After`), `members` what its document
    says beside the standard members; `cause` goes to the log.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    source: ClassVar[Source] = "gateway"
    retry_safe: ClassVar[bool] = False
    failure_kind: ClassVar[FailureKind | None] = None  # what the circuit breaker calls it
    proxy_error: ClassVar[str] = "proxy_internal_error"  # RFC 9209 2.3
    default_detail: ClassVar[str] = "Internal routing error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        cause: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        members: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.detail = self.default_detail if detail is None else detail
        self.cause = cause
        self.headers = headers
        self.members = members
        super().__init__(self.detail if cause is None else f"{self.detail} ({cause})")

    @property
    def title(self) -> str:
        """The status line's phrase (RFC 9110 15)."""
        return "Client Closed Request" if self.status == 499 else HTTPStatus(self.status).phrase


# ---- the client's doing -------------------------------------------------------------------------


class ClientError(GatewayError):
    """The request cannot be served as it is; nothing was sent upstream on its account."""

    status = 400
    code = "bad_request"
    source = "client"
    proxy_error = "http_request_error"
    default_detail = "Bad request"


class BadRequest(ClientError):
    """Malformed or ambiguous head, target or body (RFC 9112); the connection closes behind it."""


class RouteNotFound(ClientError):
    """No endpoint matches the target."""

    status = 404
    code = "route_not_found"
    default_detail = "No endpoint found"


class Forbidden(ClientError):
    """The client's address is not allowed on this endpoint."""

    status = 403
    code = "forbidden"
    default_detail = "Client address not allowed"


class WebSocketDisabled(ClientError):
    """The endpoint takes no WebSockets: `websocket.enabled` is false."""

    status = 403
    code = "websocket_disabled"
    default_detail = "WebSockets are disabled on this endpoint"


class MethodNotAllowed(ClientError):
    """The endpoint does not take this method; `Allow` says which it does (RFC 9110 15.5.6)."""

    status = 405
    code = "method_not_allowed"
    default_detail = "Method not allowed"


class RequestTimeout(ClientError):
    """The client did not send its request in time."""

    status = 408
    code = "request_timeout"
    default_detail = "The request was not sent in time"


class PayloadTooLarge(ClientError):
    """The request body is larger than the limit."""

    status = 413
    code = "payload_too_large"
    default_detail = "Request body too large"


class UriTooLong(ClientError):
    """The target is longer than `server.limits.target`."""

    status = 414
    code = "uri_too_long"
    default_detail = "Request target too long"


class ExpectationFailed(ClientError):
    """An expectation other than 100-continue."""

    status = 417
    code = "expectation_failed"
    default_detail = "Only 100-continue can be expected"


class MalformedRequestBody(BadRequest):
    """The body's framing is broken, or it ended early."""

    code = "malformed_body"
    default_detail = "Malformed request body"


class UpgradeRequired(ClientError):
    """A WebSocket handshake of another version than 13; the answer says which we speak (RFC 6455 4.4)."""

    status = 426
    code = "upgrade_required"
    default_detail = "WebSockets are spoken in version 13"


class ClientTooMany(ClientError):
    """The client has `server.limits.connections_per_client` connections already."""

    status = 429
    code = "client_connection_limit"
    default_detail = "Too many connections from this client"


class HeadTooLarge(ClientError):
    """The head is larger than `server.limits.head`, or has more than `server.limits.fields` fields."""

    status = 431
    code = "head_too_large"
    default_detail = "Request header fields too large"


class ClientStalled(ClientError):
    """The client takes our bytes too slowly: `server.timeouts.write` or `server.limits.min_rate`."""

    status = 408
    code = "client_stalled"
    default_detail = "The reply was not read in time"


class ClientGone(ClientError):
    """The client left before its reply was complete. Nobody reads this answer; the log does."""

    status = 499
    code = "client_gone"
    default_detail = "Client closed the request"


class ClientViolation(ClientError):
    """The client broke the WebSocket protocol (close code 1002) or `max_message_size` (1009)."""

    code = "client_violation"
    default_detail = "The WebSocket protocol or a limit of it was broken"


class MethodUnknown(ClientError):
    """A method or transfer coding that we don't know."""

    status = 501
    code = "not_implemented"
    default_detail = "Method or transfer coding not implemented"


class VersionNotSupported(ClientError):
    """Neither HTTP/1.0, HTTP/1.1 nor an HTTP/2 that this listener serves."""

    status = 505
    code = "version_not_supported"
    default_detail = "HTTP version not supported"


class LoopDetected(ClientError):
    """The request has come through this gateway too often (`Via`, RFC 9110 7.6.3)."""

    status = 508
    code = "loop_detected"
    default_detail = "The request runs in a circle through this gateway"


# ---- the gateway's own decision ------------------------------------------------------------------


class EndpointDisabled(GatewayError):
    """An operator or the config took the endpoint out of service."""

    status = 503
    code = "endpoint_disabled"
    default_detail = "Endpoint is disabled"


class EndpointUnhealthy(GatewayError):
    """Active health checks found the endpoint down."""

    status = 503
    code = "endpoint_unhealthy"
    default_detail = "Endpoint is unhealthy"


class CircuitOpen(GatewayError):
    """The circuit breaker does not admit the request."""

    status = 503
    code = "circuit_open"
    default_detail = "Circuit breaker is open"


class ShuttingDown(GatewayError):
    """The gateway stops and could not finish the exchange within `shutdown.drain`."""

    status = 503
    code = "shutting_down"
    default_detail = "The gateway is shutting down"


class TooManyStreams(GatewayError):
    """`server.limits.streams` WebSockets and event streams are open."""

    status = 503
    code = "too_many_streams"
    default_detail = "Too many open streams"


class WebSocketIdle(GatewayError):
    """No byte went either way for `websocket.idle_timeout`; both sides were told 1001."""

    code = "websocket_idle"
    default_detail = "The WebSocket was idle"


class TooManyConnections(GatewayError):
    """`server.limits.connections` clients are served already."""

    status = 503
    code = "connection_limit"
    default_detail = "Too many connections"


class StorageFull(GatewayError):
    """What was asked for could not be written to `state_dir`, so it was not done."""

    status = 507
    code = "storage_full"
    default_detail = "The state directory cannot be written; nothing was changed"


class TotalTimeout(GatewayError):
    """`timeouts.total` passed before the head was committed."""

    status = 504
    code = "total_timeout"
    default_detail = "Gateway timeout"


# ---- the upstream's failure -----------------------------------------------------------------------


class UpstreamError(GatewayError):
    """The upstream could not be reached or did not speak valid HTTP."""

    status = 502
    code = "bad_gateway"
    source = "upstream"
    proxy_error = "destination_unavailable"
    default_detail = "Bad gateway - connection error"


class ConnectFailed(UpstreamError):
    """Refused, unreachable, an unknown name, or a failed TLS handshake: no request byte was sent."""

    code = "connect_failed"
    retry_safe = True
    failure_kind = "connect"
    proxy_error = "connection_refused"


class ConnectTimedOut(UpstreamError):
    """`timeouts.connect` passed (name resolution, TCP and TLS together)."""

    status = 504
    code = "connect_timeout"
    retry_safe = True
    failure_kind = "connect"
    proxy_error = "connection_timeout"
    default_detail = "Gateway timeout"


class UpstreamReset(UpstreamError):
    """The connection ended before the reply's head was complete."""

    code = "upstream_reset"
    failure_kind = "reset"
    proxy_error = "connection_terminated"


class ConnectionStale(UpstreamReset):
    """The connection was dead before it took a byte of the request: nobody has seen it."""

    retry_safe = True


class BadUpstreamReply(UpstreamError):
    """What came is no valid HTTP, or nothing that may be passed on."""

    code = "invalid_upstream_reply"
    failure_kind = "reset"
    proxy_error = "http_protocol_error"
    default_detail = "Bad gateway - invalid reply"


class UpstreamTimeout(UpstreamError):
    """The upstream kept us waiting for the reply's head longer than `timeout`."""

    status = 504
    code = "upstream_timeout"
    failure_kind = "timeout"
    proxy_error = "http_response_timeout"
    default_detail = "Gateway timeout"


class UpstreamTruncated(UpstreamError):
    """The reply's body broke off after its head was committed; the client sees the cut."""

    code = "upstream_truncated"
    failure_kind = "reset"
    proxy_error = "http_response_incomplete"


class UpstreamViolation(UpstreamTruncated):
    """The upstream broke the WebSocket protocol (close code 1002) or `max_message_size` (1009)."""

    code = "upstream_violation"
    proxy_error = "http_protocol_error"


class UpstreamStalled(UpstreamError):
    """The upstream was silent for `timeouts.idle` inside a reply; the client sees the cut."""

    status = 504
    code = "upstream_stalled"
    failure_kind = "timeout"
    proxy_error = "http_response_timeout"
    default_detail = "Gateway timeout"


class ConfigError(Exception):
    """A config that cannot be used. `problems` has one line per mistake, `file:line:col: path: message`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))
