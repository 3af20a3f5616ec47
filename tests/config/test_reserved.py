"""Names of features that are not there yet."""

from __future__ import annotations

import attrs
import pytest

from tests.config.reading import problems
from trio_gateway.config.reserved import RESERVED_KEYS

REFUSED = [
    "workers: 4",
    "cluster: {}",
    "plugins: []",
    "retry: {max_retries: 2}",
    "tracing: {otlp: {}}",
    "timeouts: {per_try: 1s}",
    "timeouts: {queue: 1s}",
    "circuit_breaker: {fallback_strategy: failover}",
    "circuit_breaker: {failover_endpoint: b}",
    "circuit_breaker: {fallback_on: [open]}",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_reserved_name_is_refused_by_name(text: str) -> None:
    """A setting that does nothing is never accepted."""
    told = problems(text)
    assert len(told) == 1
    assert "not available in this version" in told[0]


@pytest.mark.parametrize("key", ["targets", "auth", "rate_limit", "retry", "mirror", "split", "cache"])
def test_reserved_names_are_refused_in_endpoints(key: str) -> None:
    """A block that is reserved at the top is reserved in an endpoint too, with its place."""
    assert problems(f"endpoints:\n  - url: http://h\n    name: n\n    {key}: {{a: b}}") == [
        f"4:5: endpoints[0].{key}: not available in this version"
    ]


@pytest.mark.parametrize(
    "text",
    ["plugins: null", "cluster: ~", "tracing: {otlp: null}", "workers:"],
)
def test_null_asks_for_nothing(text: str) -> None:
    """A reserved name with null is as good as absent."""
    assert problems(text) == []


def test_nothing_served_is_reserved() -> None:
    """A name is either a field of the model or reserved, never both."""
    for cls, keys in RESERVED_KEYS.items():
        assert keys.isdisjoint(field.name for field in attrs.fields(cls)), cls
