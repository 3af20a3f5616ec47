"""`logging` and `tracing`: what the gateway says about itself."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from trio_gateway.config.tokens import HeaderName


@frozen
class LoggingConfig:
    """`logging`: `auto` is text on a terminal, JSON elsewhere; the access log ignores `log_level`."""

    format: Literal["auto", "text", "json"] = "auto"
    access_log: bool = True


@frozen
class TracingConfig:
    """`tracing`: the field that carries a request's id, and whether an inbound one is believed."""

    request_id_header: HeaderName = "X-Request-ID"
    trust_inbound_request_id: bool = True
