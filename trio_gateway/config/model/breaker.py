"""`circuit_breaker`: when an endpoint is cut off, and what its clients get meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

FallbackStrategy = Literal["error_response", "cached_response", "default_response", "redirect"]


@frozen
class SlidingWindow:
    """`sliding_window`: the last `size` calls (`count`) or the calls of the last `size` seconds (`time`)."""

    type: Literal["count", "time"] = "count"
    size: int = 100


@frozen
class OpenBackoff:
    """`open_backoff`: each reopening multiplies the time spent open, up to `max` seconds."""

    multiplier: float = 1.0
    max: float = 300.0


@frozen
class FallbackCacheConfig:
    """`cache`: what `cached_response` keeps. Sizes in bytes, `stale_if_error` in seconds (RFC 5861)."""

    max_bytes: int = 10 * 1024 * 1024
    max_entry: int = 256 * 1024
    stale_if_error: float = 300.0
    vary: tuple[str, ...] = ()


@frozen
class CircuitBreakerConfig:
    """`circuit_breaker`: consecutive mode always, rate mode when `failure_rate_threshold` is set."""

    failure_threshold: int = 5
    reset_timeout: float = 60.0
    half_open_max_calls: int = 3
    fallback_strategy: FallbackStrategy = "error_response"
    fallback_response: Mapping[str, Any] | None = None
    failure_on: tuple[str, ...] = ("connect", "timeout", "reset", "gateway_error")
    half_open_successes: int = 1
    half_open_max_wait: float = 30.0
    open_backoff: OpenBackoff = field(factory=OpenBackoff)
    failure_rate_threshold: float | None = None  # percent
    sliding_window: SlidingWindow = field(factory=SlidingWindow)
    minimum_number_of_calls: int = 20
    slow_call_duration_threshold: float = 60.0
    slow_call_rate_threshold: float = 100.0  # percent
    fallback_status: int = 200
    redirect_url: str | None = None
    cache: FallbackCacheConfig = field(factory=FallbackCacheConfig)
