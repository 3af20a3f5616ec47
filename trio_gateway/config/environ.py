"""`${NAME}`, `${NAME:-default}` and `$$` inside values.

A value is expanded after the YAML around it was parsed, and never parsed again: whatever stands in a
variable, it stays inside the one value that names it. As in a shell, the default of `:-` also
replaces an empty variable. A dollar followed by anything else is a dollar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MARK = re.compile(r"\$\$|\$\{([^}]*)\}?", re.DOTALL)
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced. ValueError names each that is unset or not understood."""
    faults: list[str] = []

    def replace(mark: re.Match[str]) -> str:
        if mark[0] == "$$":
            return "$"
        try:
            return _value(mark, environ)
        except ValueError as error:
            faults.append(str(error))
            return ""

    expanded = _MARK.sub(replace, text)
    if faults:
        raise ValueError("; ".join(faults))
    return expanded


def _value(mark: re.Match[str], environ: Mapping[str, str]) -> str:
    reference = _REFERENCE.fullmatch(mark[1])
    if reference is None or not mark[0].endswith("}") or "${" in mark[1]:
        raise ValueError("expected ${NAME} or ${NAME:-default}; write $$ for a dollar")
    name, default = reference.groups()
    if environ.get(name):
        return environ[name]
    if default is not None:
        return default
    if name in environ:
        return ""
    raise ValueError(f"the environment variable {name} is not set")
