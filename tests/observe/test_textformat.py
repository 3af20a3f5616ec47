"""The text format: what is written is what the library's parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observe.scrape import families
from trio_gateway.observe.textformat import bounds_of, counter, family, gauge, histogram, label, summary


@given(st.text())
def test_any_text_can_be_a_label(text: str) -> None:
    """Quotes, backslashes and line ends stay inside one value."""
    [read] = families(family("a", "gauge", "What.", [f'a{{{label("id", text)},b="c"}} 1\n']).encode())
    assert [sample.labels for sample in read.samples] == [{"id": text, "b": "c"}]


@pytest.mark.parametrize("value", [0, 7, 0.25, 1e-9, 1.7e18])
def test_single_numbers(value: float) -> None:
    """A counter and a gauge keep their number, their kind and what they are."""
    read = families((counter("a_total", "An a.", value) + gauge("b", "A b.", value)).encode())
    assert [(each.name, each.type, each.documentation, each.samples[0].value) for each in read] == [
        ("a", "counter", "An a.", value),
        ("b", "gauge", "A b.", value),
    ]


@pytest.mark.parametrize("labels", ["", 'endpoint="users"'])
def test_a_histogram_is_cumulated(labels: str) -> None:
    """Buckets hold what is at or below their bound, and the last is the count."""
    lines = histogram("a_seconds", labels, bounds_of((0.1, 1.0)), [2, 0, 3], 12.5)
    [read] = families(family("a_seconds", "histogram", "What.", [lines]).encode())
    shown = [(each.name[9:], each.labels.get("le"), each.value) for each in read.samples]
    assert shown == [
        ("_bucket", "0.1", 2),
        ("_bucket", "1.0", 2),
        ("_bucket", "+Inf", 5),
        ("_count", None, 5),
        ("_sum", None, 12.5),
    ]
    assert {each.labels.get("endpoint") for each in read.samples} == {"users" if labels else None}


def test_a_summary_has_count_and_sum() -> None:
    """Quantiles are not known, so there are none."""
    lines = summary("a_seconds", 'endpoint="users"', 3, 1.5)
    [read] = families(family("a_seconds", "summary", "What.", [lines]).encode())
    assert [(each.name, each.value) for each in read.samples] == [
        ("a_seconds_count", 3),
        ("a_seconds_sum", 1.5),
    ]


def test_nothing_is_said_of_nothing() -> None:
    """A family without a sample does not appear."""
    assert family("a", "gauge", "What.", []) == ""
