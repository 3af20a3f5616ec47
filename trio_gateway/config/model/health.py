"""`health_check`: how an endpoint's health is probed."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from trio_gateway.config.tokens import StatusPattern, Token
from trio_gateway.config.values import Count, PercentOrZero, Seconds


@frozen
class HealthCheckConfig:
    """`health_check`: a probe each `interval` seconds, and how many verdicts flip the status."""

    enabled: bool = True
    interval: Seconds = 30.0
    timeout: Seconds = 10.0
    unhealthy_threshold: Count = 3
    healthy_threshold: Count = 2
    jitter: PercentOrZero = 10.0  # of the interval
    method: Token = "GET"
    type: Literal["http", "tcp", "websocket"] = "http"
    expected_statuses: tuple[StatusPattern, ...] = ("2xx", "3xx")
    panic_threshold: PercentOrZero = 0.0  # of healthy targets; below it health is ignored
