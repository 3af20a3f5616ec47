"""Heads of the plain shape, which nearly all have: one regular expression checks such a head, another takes
its fields apart, at a third of a parser's cost.

It is a shortcut and no second judge: it takes only what llhttp takes too, with the same result, and says
nothing about the rest, which goes to llhttp. No repetition gives back what it took, so the time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"(?:[!-~\x80-\xff][\t -~\x80-\xff]*+)?(?<![ \t])"
_FIELD = _TOKEN + rb":[ \t]*+" + _VALUE + rb"\r\n"


def plain_head(start_line: bytes, left_to_llhttp: bytes) -> Callable[[bytes], re.Match[bytes] | None]:
    """What matches a plain head; its last group holds the fields.

    `start_line` is an expression, without the line's end; `left_to_llhttp` one for the names of fields, in
    lower case, that no plain head has.
    """
    field = rb"(?!(?i:%b):)%b" % (left_to_llhttp, _FIELD)
    return re.compile(rb"%b\r\n((?:%b)*+)\r\n" % (start_line, field)).fullmatch


fields_of: Callable[[bytes], list[tuple[bytes, bytes]]] = re.compile(
    rb"([^:]++):[ \t]*+([^\r]*+)\r\n"
).findall
"""The fields in the last group of a plain head."""
