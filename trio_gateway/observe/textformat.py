"""Prometheus' text format, version 0.0.4: families of samples, a line each.

A library's writer makes an object of every sample first; for a hundred endpoints that is tens of
milliseconds of the interpreter's time, most of which the event loop would wait for. Here a sample is a
line from the start. Texts that explain a family are our own: one line without a backslash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram", "summary"]

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label(name: str, value: str) -> str:
    """`name="value"`, as it stands between a sample's braces; several are joined by commas."""
    return f'{name}="{value.translate(_ESCAPED)}"'


def family(name: str, kind: Kind, what: str, samples: Iterable[str]) -> str:
    """Samples behind the lines that tell what they are; nothing where there are none."""
    body = "".join(samples)
    return f"# HELP {name} {what}\n# TYPE {name} {kind}\n{body}" if body else ""


def counter(name: str, what: str, value: float) -> str:
    """A counter without labels."""
    return family(name, "counter", what, (f"{name} {value}\n",))


def gauge(name: str, what: str, value: float) -> str:
    """A gauge without labels."""
    return family(name, "gauge", what, (f"{name} {value}\n",))


def bounds_of(buckets: Sequence[float]) -> list[str]:
    """The labels of a histogram's buckets; the last takes what exceeds them all."""
    return [f'le="{bound}"' for bound in (*buckets, "+Inf")]


def histogram(name: str, labels: str, bounds: Sequence[str], counts: Sequence[int], total: float) -> str:
    """The samples of one histogram: `counts` per bucket, not cumulated, and the sum of what was seen."""
    before, behind = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    heights = list(accumulate(counts))
    lines = [
        f"{name}_bucket{{{before}{bound}}} {height}\n" for bound, height in zip(bounds, heights, strict=True)
    ]
    return f"{''.join(lines)}{name}_count{behind} {heights[-1]}\n{name}_sum{behind} {total}\n"


def summary(name: str, labels: str, count: int, total: float) -> str:
    """The samples of one summary without quantiles."""
    return f"{name}_count{{{labels}}} {count}\n{name}_sum{{{labels}}} {total}\n"
