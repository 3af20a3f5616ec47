"""Scalars: the field directs how a text is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trio_gateway.config import values

GOOD: list[tuple[Callable[[str], Any], str, Any]] = [
    *[(values.boolean, word, True) for word in ("true", "yes", "on", "True", "YES")],
    *[(values.boolean, word, False) for word in ("false", "no", "off", "Off")],
    (values.integer, "017", 17),
    (values.integer, "1_000", 1000),
    (values.integer, " -5 ", -5),
    (values.integer, "5.0", 5),
    (values.number, "017.5", 17.5),
    (values.number, "1e3", 1000.0),
    (values.plain_text, "1.10", "1.10"),
    (values.duration, "45", 45.0),
    (values.duration, "0.25", 0.25),
    (values.duration, "250ms", 0.25),
    (values.duration, "5s", 5.0),
    (values.duration, "1.5 m", 90.0),
    (values.duration, "2h", 7200.0),
    (values.duration_or_zero, "0s", 0.0),
    (values.size, "1024", 1024),
    (values.size, "64KiB", 65536),
    (values.size, "10MB", 10_000_000),
    (values.size, "1.5GiB", 1_610_612_736),
    (values.size, "2 kb", 2000),
    (values.size, "7B", 7),
    (values.size_or_zero, "0", 0),
    (values.percent, "10%", 10.0),
    (values.percent, "100", 100.0),
    (values.percent_or_zero, "0%", 0.0),
    (values.factor, "1", 1.0),
    (values.count, "1", 1),
    (values.count_or_zero, "0", 0),
    (values.log_level, "info", "INFO"),
    (values.log_level, "Warn", "WARNING"),
]

BAD: list[tuple[Callable[[str], Any], str]] = [
    *[(values.boolean, text) for text in ("", "1", "y", "maybe", "null")],
    *[(values.integer, text) for text in ("", "1:30", "0x10", "5.5", "1__0", "ten", "٣", "9" * 5000)],
    *[(values.number, text) for text in ("", "1:30", ".inf", "nan", "1e999", "1_", "--1")],
    *[(values.duration, text) for text in ("", "s", "0", "-1", "5d", "1:30", "1h30m", "5S", "1e400s", "0ms")],
    *[(values.duration_or_zero, text) for text in ("-1s", "-0.1")],
    *[(values.size, text) for text in ("", "KiB", "0", "-1", "1.5", "10K", "10M", "1XB", "nanMB")],
    *[(values.percent, text) for text in ("0", "101", "-1%", "ten", "%", "5%%")],
    (values.factor, "0.9"),
    (values.count, "0"),
    (values.count_or_zero, "-1"),
    (values.log_level, "loud"),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_a_spelling_has_one_value(parse: Callable[[str], Any], text: str, value: Any) -> None:
    """Every spelling that the documents name is read, in the type that the model declares."""
    read = parse(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_another_spelling_is_refused(parse: Callable[[str], Any], text: str) -> None:
    """What could be read in two ways, or is out of range, is an error with one printable sentence."""
    with pytest.raises(ValueError, match=r"^must [ -~]+$"):
        parse(text)
