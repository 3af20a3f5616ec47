"""Health: what is asked of an endpoint, which answers are alive, and when verdicts flip its status.

One verdict says little: a probe gets lost, a backend restarts. So a status flips by rise and fall, as in
HAProxy and Pingora: after `unhealthy_threshold` failed checks in a row it is unhealthy, after
`healthy_threshold` passed ones in a row healthy again, and one verdict to the contrary starts the count
anew. `HealthState` counts and says whether it flipped; what follows from that is the caller's business.

`Check` is all that a prober needs to know of an endpoint, and nothing else: when the config changes and
an endpoint's check stays equal, its schedule and its counts go on.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from math import ceil
from random import Random
from typing import Literal
from urllib.parse import urljoin

from attrs import define, frozen

from trio_gateway.config.model import EndpointConfig, EndpointTls, HealthCheckConfig

Health = Literal["active", "unhealthy"]


@frozen
class Check:
    """What is asked of one endpoint. `type` names the probe; `path` is null when none is configured.

    `url` is where the probe goes: `urljoin` of the endpoint's url and the path, empty when they make none.
    """

    endpoint_id: str
    type: str
    url: str
    path: str | None
    rules: HealthCheckConfig
    tls: EndpointTls

    @classmethod
    def of(cls, config: EndpointConfig) -> Check:
        """An endpoint's check. Without a path, and where the method is not allowed, it only connects."""
        rules, path = config.health_check, config.health_check_path or None
        unwelcome = rules.type == "http" and path is None and not _takes(config, rules.method)
        type_ = "tcp" if unwelcome else rules.type
        return cls(config.id, type_, _joined(config.url, path), path, rules, config.tls)

    def accepts(self, status: int) -> bool:
        """Whether a reply with this status is alive: an expected one, or without a path any below 500."""
        if self.path is None:
            return status < 500
        return any(pattern in (str(status), f"{status // 100}xx") for pattern in self.rules.expected_statuses)

    def delay(self, rng: Random) -> float:
        """Seconds from one check to the next: the interval, more or less by up to `jitter` percent of it."""
        return self.rules.interval * (1 + rng.uniform(-1, 1) * self.rules.jitter / 100)

    def start(self, due: float) -> float:
        """When to begin a check that is due: a little later, together with others of that moment.

        The moments lie 1 % of the interval apart, but no more than 50 ms. Checks that begin together take
        turns with warm caches: a thousand endpoints cost little more than half of what they cost one by one.
        """
        step = min(self.rules.interval / 100, 0.05)
        return max(ceil(due / step) * step, due)


def _joined(url: str, path: str | None) -> str:
    try:
        return url if path is None else urljoin(url, path)
    except ValueError:
        return ""


def _takes(config: EndpointConfig, method: str) -> bool:
    return method in config.methods or (method == "HEAD" and "GET" in config.methods)


@define(eq=False)
class HealthState:
    """One endpoint's rise and fall. `since` is when its health last changed, on the caller's clock."""

    rules: HealthCheckConfig
    healthy: bool
    since: float
    consecutive_failures: int = 0
    consecutive_successes: int = 0

    def record(self, ok: bool, now: float) -> bool:
        """Count one verdict; whether it flipped the health."""
        self.consecutive_successes = self.consecutive_successes + 1 if ok else 0
        self.consecutive_failures = 0 if ok else self.consecutive_failures + 1
        if self.healthy:
            flipped = self.consecutive_failures >= self.rules.unhealthy_threshold
        else:
            flipped = self.consecutive_successes >= self.rules.healthy_threshold
        if flipped:
            self.healthy, self.since = not self.healthy, now
        return flipped

    def override(self, healthy: bool, now: float) -> None:
        """Somebody knows better: the health is this, and the count starts anew."""
        if self.healthy != healthy:
            self.healthy, self.since = healthy, now
        self.consecutive_failures = self.consecutive_successes = 0


def panics(healthy: int, targets: int, threshold: float) -> bool:
    """Whether so few targets are healthy, under `threshold` percent, that health is to be ignored.

    Traffic that all goes to the last healthy target would take that one down too (Envoy's panic threshold).
    """
    return 100 * healthy < threshold * targets


# ---- what people read ------------------------------------------------------------------------------


@frozen
class HealthRecord:
    """The last check of an endpoint. Times are wall time and seconds; all null before the first check."""

    endpoint_id: str
    status: Health
    last_check_time: datetime | None = None
    response_time: float | None = None
    error_message: str | None = None
    consecutive_failures: int = 0
    consecutive_successes: int = 0


@frozen
class HealthSettings:
    """The defaults that the summary shows; endpoints may differ."""

    enabled: bool
    interval: float
    timeout: float
    unhealthy_threshold: int
    healthy_threshold: int


@frozen
class HealthSummary:
    """All monitored endpoints in one view. An endpoint not yet checked counts as healthy."""

    total_endpoints: int
    healthy_endpoints: int
    unhealthy_endpoints: int
    health_percentage: float
    average_response_time: float
    last_check_time: datetime | None
    config: HealthSettings


def summarise(records: Collection[HealthRecord], defaults: HealthCheckConfig) -> HealthSummary:
    """Sum up. Without endpoints they are all healthy: 100 percent."""
    total = len(records)
    healthy = sum(record.status == "active" for record in records)
    seconds = [record.response_time for record in records if record.response_time is not None]
    times = [record.last_check_time for record in records if record.last_check_time is not None]
    return HealthSummary(
        total_endpoints=total,
        healthy_endpoints=healthy,
        unhealthy_endpoints=total - healthy,
        health_percentage=100 * healthy / total if total else 100.0,
        average_response_time=sum(seconds) / len(seconds) if seconds else 0.0,
        last_check_time=max(times, default=None),
        config=HealthSettings(
            defaults.enabled,
            defaults.interval,
            defaults.timeout,
            defaults.unhealthy_threshold,
            defaults.healthy_threshold,
        ),
    )
