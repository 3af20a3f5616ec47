"""How an exchange ended, as a policy sees it, and who is to blame.

A policy that learns from exchanges (breaker, budget, outlier detection) must not guess: somebody who
saw the end names it once, with one of four words. ABANDONED is the important one. A cancelled
request, a client that left or a lost hedge says nothing about the upstream, so it gives back what it
holds and counts for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Literal

from attrs import frozen

FailureKind = Literal["connect", "timeout", "reset"]

_KINDS = frozenset(("connect", "timeout", "reset"))
_STATUS_CLASSES = {
    "gateway_error": frozenset((502, 503, 504)),
    "5xx": frozenset(range(500, 600)),
}


class Outcome(Enum):
    """What an exchange tells about its upstream."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"


@frozen
class FailureRule:
    """`failure_on`, compiled: which ends of an exchange are the upstream's failures."""

    kinds: frozenset[str]
    statuses: frozenset[int]

    @classmethod
    def of(cls, words: Iterable[str]) -> FailureRule:
        """Read the words of `failure_on`; ValueError for a word that is neither a kind nor a status."""
        kinds: set[str] = set()
        statuses: set[int] = set()
        for word in words:
            if word in _KINDS:
                kinds.add(word)
            else:
                statuses |= _statuses(word)
        return cls(frozenset(kinds), frozenset(statuses))

    def counts_kind(self, kind: FailureKind) -> bool:
        """Whether an exchange that ended without a reply, in this way, is a failure."""
        return kind in self.kinds

    def counts_status(self, status: int) -> bool:
        """Whether a reply with this status is a failure."""
        return status in self.statuses


def _statuses(word: str) -> frozenset[int]:
    if word in _STATUS_CLASSES:
        return _STATUS_CLASSES[word]
    if len(word) == 3 and word.isascii() and word.isdigit() and word >= "100":
        return frozenset((int(word),))
    raise ValueError(f"{word!r} is not a kind of failure")


def judge_status(status: int, failure_on: FailureRule) -> Outcome:
    """The outcome of an exchange whose reply head arrived: any reply that is no failure is a success."""
    return Outcome.FAILED if status in failure_on.statuses else Outcome.OK


def judge_kind(kind: FailureKind, failure_on: FailureRule) -> Outcome:
    """The outcome of an exchange that ended without a reply.

    A kind that does not count is ABANDONED, not OK: no reply came, so it must not close a breaker either.
    """
    if kind not in failure_on.kinds:
        return Outcome.ABANDONED
    return Outcome.TIMED_OUT if kind == "timeout" else Outcome.FAILED
