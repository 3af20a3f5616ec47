"""How a scalar's text becomes a value: the field directs, never the look of the text.

Each parser takes the text of a scalar and returns the value, or raises ValueError with the end of the
sentence "<field> ...". The annotated types at the end are what the model's fields are declared with: a
field's type says both what it holds and how it is written. No message quotes the text, which may be a
secret; the problem's line and column point at it.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, TypeVar

_NUMBER = re.compile(r"([+-]?)(\d+(?:_\d+)*)(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+(?:_\d+)*(?:\.0*)?", re.ASCII)
_DURATION = re.compile(r"(.*?)\s*(ms|s|m|h)", re.ASCII)
_SIZE = re.compile(r"(.*?)\s*([kmgt]?i?b)", re.ASCII | re.IGNORECASE)

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"b": 1} | {
    prefix + suffix: base ** (power + 1)
    for power, prefix in enumerate("kmgt")
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_TRUE = frozenset(("true", "yes", "on"))
_FALSE = frozenset(("false", "no", "off"))
_MOST_DIGITS = 18

_N = TypeVar("_N", int, float)


def boolean(text: str) -> bool:
    """true/false, yes/no, on/off, in any case."""
    word = text.strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def integer(text: str) -> int:
    """A decimal whole number: `017` is 17, `1_000` a thousand, `5.0` five."""
    digits = text.strip()
    if not _INTEGER.fullmatch(digits) or len(digits) > _MOST_DIGITS:
        raise ValueError("must be a whole number")
    return int(digits.partition(".")[0])


def number(text: str) -> float:
    """A decimal number, finite."""
    digits = text.strip()
    value = float(digits) if _NUMBER.fullmatch(digits) else math.nan
    if not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def plain_text(text: str) -> str:
    """The text as it stands: `1.10` keeps its zero, `yes` is a word."""
    return text


def count(text: str) -> int:
    """A whole number from 1."""
    return _at_least(1, integer(text))


def count_or_zero(text: str) -> int:
    """A whole number from 0."""
    return _at_least(0, integer(text))


def duration_or_zero(text: str) -> float:
    """Seconds, from `1.5`, `250ms`, `5s`, `1m`, `2h`; zero is allowed."""
    spelled = _DURATION.fullmatch(text.strip())
    digits, unit = spelled.groups() if spelled else (text, "s")
    try:
        seconds = number(digits) * _SECONDS[unit]
    except ValueError:
        raise ValueError("must be a duration: seconds, or 250ms, 5s, 1m, 2h") from None
    return _at_least(0.0, seconds)


def duration(text: str) -> float:
    """Seconds as in `duration_or_zero`, above zero."""
    seconds = duration_or_zero(text)
    if seconds == 0:
        raise ValueError("must be longer than zero")
    return seconds


def size_or_zero(text: str) -> int:
    """Bytes, from `1024`, `64KiB` (1024), `10MB` (1000); zero is allowed."""
    spelled = _SIZE.fullmatch(text.strip())
    digits, unit = spelled.groups() if spelled else (text, "b")
    try:
        size = number(digits) * _BYTES[unit.lower()]
    except ValueError:
        raise ValueError("must be a size: bytes, or 64KiB, 10MB") from None
    if size != int(size):
        raise ValueError("must be a whole number of bytes")
    return _at_least(0, int(size))


def size(text: str) -> int:
    """Bytes as in `size_or_zero`, above zero."""
    return _at_least(1, size_or_zero(text))


def percent_or_zero(text: str) -> float:
    """From 0 to 100, with or without `%`."""
    try:
        value = number(text.strip().removesuffix("%"))
    except ValueError:
        raise ValueError("must be a percentage: a number, or 10%") from None
    if not 0 <= value <= 100:
        raise ValueError("must be from 0 to 100 percent")
    return value


def percent(text: str) -> float:
    """Above 0, at most 100."""
    value = percent_or_zero(text)
    if value == 0:
        raise ValueError("must be above 0 percent")
    return value


def factor(text: str) -> float:
    """A number from 1."""
    return _at_least(1.0, number(text))


def log_level(text: str) -> str:
    """A level of `logging`, in any case; returned in capitals."""
    level = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(text.upper(), text.upper())
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("must be one of debug, info, warning, error, critical")
    return level


def _at_least(least: _N, value: _N) -> _N:
    if value < least:
        raise ValueError(f"must be at least {least:g}")
    return value


Seconds = Annotated[float, duration]
SecondsOrZero = Annotated[float, duration_or_zero]
Bytes = Annotated[int, size]
BytesOrZero = Annotated[int, size_or_zero]
Integer = Annotated[int, integer]
Count = Annotated[int, count]
CountOrZero = Annotated[int, count_or_zero]
Percent = Annotated[float, percent]
PercentOrZero = Annotated[float, percent_or_zero]
Factor = Annotated[float, factor]
LogLevel = Annotated[str, log_level]
