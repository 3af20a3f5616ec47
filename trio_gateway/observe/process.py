"""What Prometheus' clients say of every process, under the names that dashboards know.

CPU seconds, resident memory, descriptors open and allowed, start time, and the garbage collector's work.
Outside Linux the process has no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.metrics_core import Metric

from trio_gateway.observe.textformat import Kind, family, label


def process_families() -> Iterator[str]:
    """The families in Prometheus' text format. Takes about a millisecond, more with many descriptors."""
    for collector in (PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR):
        for metric in collector.collect():
            yield _written(metric)


def _written(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    samples = [
        f"{sample.name}{{{','.join(label(*pair) for pair in sample.labels.items())}}} {sample.value}\n"
        for sample in metric.samples
    ]
    return family(name, cast(Kind, metric.type), metric.documentation, samples)
