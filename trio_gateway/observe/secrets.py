"""What a secret is called: the one list that both logs go by.

Clients write what is searched here, on the thread that shares the interpreter with the event loop, so
each pattern takes time in proportion to the text and no more.
"""

from __future__ import annotations

import re

NAME = r"authorization|cookie|token|secret|passwd|password|api[_-]?key|credentials?|signature|assertion"
"""Somewhere in the name of a header or a field, or at the end of a query parameter's."""

_WHOLE_NAME = r"key|code|sig|pwd|jwt|j?session_?id|id_token_hint"
_PLACE_IN_A_LIST = r"[\w.%-]*(?:page|next|prev|previous|continuation|start|sync|skip)[_-]?token="

PARAMETER = rf"[?&;](?!{_PLACE_IN_A_LIST})(?:[\w.%-]*(?:{NAME})|{_WHOLE_NAME})="
"""A query parameter whose value is a secret, up to its value. A `page_token` is none."""

_PARAMETER = re.compile(rf"({PARAMETER})[^&;#]+", re.IGNORECASE)
_USERINFO = re.compile(r"^([a-z+]+://)[^/?#]*@", re.IGNORECASE)


def masked_url(text: str) -> str:
    """A url or a request target with `***` for its userinfo and for parameters that are secrets."""
    if "@" in text:
        text = _USERINFO.sub(r"\1***@", text)
    return _PARAMETER.sub(r"\1***", text) if "=" in text else text
