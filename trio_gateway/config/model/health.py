"""`health_check`: how an endpoint's health is probed."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen
class HealthCheckConfig:
    """`health_check`: a probe each `interval` seconds, and how many verdicts flip the status."""

    enabled: bool = True
    interval: float = 30.0
    timeout: float = 10.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2
    jitter: float = 10.0  # percent of the interval
    method: str = "GET"
    type: Literal["http", "tcp", "websocket"] = "http"
    expected_statuses: tuple[str, ...] = ("2xx", "3xx")
    panic_threshold: float = 0.0  # percent of healthy targets below which health is ignored
