"""A body against its promised length, and credit in steps."""

from __future__ import annotations

import pytest

from trio_gateway.server.h2_connection import STREAM_WINDOW
from trio_gateway.server.inflow import Inflow


def promising(*lengths: bytes) -> Inflow:
    """A body with these Content-Length fields."""
    return Inflow([(b"x", b"1"), *((b"content-length", length) for length in lengths)])


@pytest.mark.parametrize(
    ("pieces", "fits", "may_end"),
    [([], [], False), ([10], [True], True), ([4, 5], [True, True], False), ([4, 7], [True, False], False)],
)
def test_a_promised_length_is_kept_exactly(pieces: list[int], fits: list[bool], may_end: bool) -> None:
    """Neither more nor less than Content-Length will do."""
    inflow = promising(b"10")
    assert [inflow.fits(size) for size in pieces] == fits
    assert inflow.may_end is may_end


@pytest.mark.parametrize("lengths", [(), (b"x",), (b"-1",), (b"9" * 19,), (b"1", b"2")])
def test_without_a_usable_length_anything_fits(lengths: tuple[bytes, ...]) -> None:
    """No length, or one that the head's judge refuses, promises nothing."""
    inflow = promising(*lengths)
    assert inflow.fits(10**9)
    assert inflow.may_end


def test_an_empty_body_may_end_at_once() -> None:
    """A length of 0 is complete, and one byte is too many."""
    assert promising(b"0").may_end
    assert not promising(b"0").fits(1)


def test_credit_comes_in_steps_and_none_is_lost() -> None:
    """Small pieces add up to frames that are worth sending; their sum is exact."""
    inflow = promising()
    given = [inflow.credit(1000) for _ in range(1000)]
    owed = 1_000_000 - sum(given)
    assert 0 <= owed < STREAM_WINDOW // 4
    assert 0 < sum(size > 0 for size in given) <= 16
