"""`circuit_breaker`: when an endpoint is cut off, and what its clients get meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from trio_gateway.config.addresses import Url
from trio_gateway.config.tokens import BodyStatus, Failure, HeaderName
from trio_gateway.config.values import BytesOrZero, Count, Factor, Percent, Seconds, SecondsOrZero

FallbackStrategy = Literal["error_response", "cached_response", "default_response", "redirect"]


@frozen
class SlidingWindow:
    """`sliding_window`: the last `size` calls (`count`) or the calls of the last `size` seconds (`time`)."""

    type: Literal["count", "time"] = "count"
    size: Count = 100


@frozen
class OpenBackoff:
    """`open_backoff`: each reopening multiplies the time spent open, up to `max` seconds."""

    multiplier: Factor = 1.0
    max: Seconds = 300.0


@frozen
class FallbackCacheConfig:
    """`cache`: what `cached_response` keeps. Sizes in bytes, `stale_if_error` in seconds (RFC 5861)."""

    max_bytes: BytesOrZero = 10 * 1024 * 1024
    max_entry: BytesOrZero = 256 * 1024
    stale_if_error: SecondsOrZero = 300.0
    vary: tuple[HeaderName, ...] = ()


@frozen
class CircuitBreakerConfig:
    """`circuit_breaker`: consecutive mode always, rate mode when `failure_rate_threshold` is set."""

    failure_threshold: Count = 5
    reset_timeout: Seconds = 60.0
    half_open_max_calls: Count = 3
    fallback_strategy: FallbackStrategy = "error_response"
    fallback_response: Mapping[str, Any] | None = None
    failure_on: tuple[Failure, ...] = ("connect", "timeout", "reset", "gateway_error")
    half_open_successes: Count = 1
    half_open_max_wait: Seconds = 30.0
    open_backoff: OpenBackoff = field(factory=OpenBackoff)
    failure_rate_threshold: Percent | None = None
    sliding_window: SlidingWindow = field(factory=SlidingWindow)
    minimum_number_of_calls: Count = 20
    slow_call_duration_threshold: Seconds = 60.0
    slow_call_rate_threshold: Percent = 100.0
    fallback_status: BodyStatus = 200
    redirect_url: Url | None = None
    cache: FallbackCacheConfig = field(factory=FallbackCacheConfig)
