"""Random digits for ids, from the system's generator: drawn in blocks, as a call for each would show."""

from __future__ import annotations

import os

_BLOCK = 8192  # digits

_digits = ""
_at = 0


def hex_digits(count: int) -> str:
    """`count` digits that were never given before, at most 8192."""
    global _digits, _at
    end = _at + count
    if end > len(_digits):
        _digits, end = os.urandom(_BLOCK // 2).hex(), count
    _at = end
    return _digits[end - count : end]
