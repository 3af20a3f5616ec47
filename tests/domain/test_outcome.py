"""`failure_on`: which ends of an exchange count against an upstream."""

from __future__ import annotations

import pytest

from trio_gateway.config.model import CircuitBreakerConfig
from trio_gateway.domain.outcome import FailureRule, Outcome, judge_kind, judge_status

DEFAULT = FailureRule.of(CircuitBreakerConfig().failure_on)
OLD_RULE = FailureRule.of(["connect", "timeout", "reset"])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_errors_count_by_default(status: int) -> None:
    """A 502, 503 or 504 from the upstream is its failure."""
    assert DEFAULT.counts_status(status)
    assert judge_status(status, DEFAULT) is Outcome.FAILED


@pytest.mark.parametrize("status", [101, 200, 301, 404, 429, 499, 500, 501, 505])
def test_other_replies_are_successes(status: int) -> None:
    """Any other reply shows that the upstream is there; a 500 counts only when asked for."""
    assert judge_status(status, DEFAULT) is Outcome.OK


def test_the_old_rule_counts_no_status() -> None:
    """With the three kinds alone no reply is a failure."""
    assert all(judge_status(status, OLD_RULE) is Outcome.OK for status in range(100, 600))


def test_5xx_and_single_statuses_can_be_added() -> None:
    """`5xx` counts all of them, a number counts itself alone."""
    rule = FailureRule.of(["5xx", "429"])
    counted = [status for status in range(100, 700) if rule.counts_status(status)]
    assert counted == [429, *range(500, 600)]
    assert not rule.counts_kind("connect")


@pytest.mark.parametrize("word", ["", "connects", "4xx", "99", "099", "1000", "-50", "٤٢٩"])
def test_unknown_words_are_refused(word: str) -> None:
    """A word that is neither a kind nor a status names itself in the error."""
    with pytest.raises(ValueError, match="not a kind of failure"):
        FailureRule.of([word])


def test_kinds_that_count() -> None:
    """A missing reply is a failure, and a timeout can be told from the rest."""
    assert judge_kind("connect", DEFAULT) is Outcome.FAILED
    assert judge_kind("reset", DEFAULT) is Outcome.FAILED
    assert judge_kind("timeout", DEFAULT) is Outcome.TIMED_OUT


def test_kinds_that_do_not_count_teach_nothing() -> None:
    """A kind left out of `failure_on` is neither a failure nor a success."""
    assert judge_kind("timeout", FailureRule.of(["connect"])) is Outcome.ABANDONED
