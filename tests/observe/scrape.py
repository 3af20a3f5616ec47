"""Scrapes, read by prometheus_client's own parser."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from trio_gateway.observe.exposition import render
from trio_gateway.observe.metrics import EndpointStats, Metrics

Labels = frozenset[tuple[str, str]]


def families(text: bytes) -> list[Metric]:
    """All families of a text."""
    return list(text_string_to_metric_families(text.decode()))


def scraped(metrics: Metrics) -> dict[tuple[str, Labels], float]:
    """All samples of a scrape, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(render(metrics))
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One of the gateway's own samples, None when it is not there; `from_` stands for `from`."""
    wanted = frozenset((label.rstrip("_"), text) for label, text in labels.items())
    return scraped(metrics).get((f"trio_gateway_{name}", wanted))


def served(
    stats: EndpointStats,
    method: bytes = b"GET",
    status: int = 200,
    reason: str = "completed",
    duration: float = 0.01,
    bytes_in: int = 0,
    bytes_out: int = 0,
) -> None:
    """One request from its start to its end."""
    stats.start()
    stats.finish(method, status, reason, duration, bytes_in, bytes_out)
