"""The words that replies are made of: times, ids, numbers as the old gateway wrote them.

Reply classes are attrs classes without slots: JSON objects then have their keys in the order in which
the class declares them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta

Timestamp = Annotated[
    str,
    Meta(examples=["2026-11-23T16:09:40.841688+00:00"], extra_json_schema={"format": "date-time"}),
]
EndpointId = Annotated[str, Meta(examples=["users"])]
EndpointUrl = Annotated[str, Meta(examples=["http://users.internal:9001/"])]
Seconds = Annotated[float, Meta(examples=[30])]
Percentage = Annotated[float, Meta(ge=0, le=100, examples=[100.0])]


def timestamp(time: datetime) -> Timestamp:
    """RFC 3339 in UTC, with offset and microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def maybe_timestamp(time: datetime | None) -> Timestamp | None:
    """The same, or null for what has not happened."""
    return None if time is None else timestamp(time)


def seconds(value: float) -> float:
    """A duration; whole seconds without a fraction, as old clients know them."""
    return int(value) if value == int(value) else value


@frozen(slots=False)
class Done:
    """A change was made."""

    success: bool
    message: str
    endpoint_id: EndpointId


@frozen(slots=False)
class Mistake:
    """One thing that is wrong with a request: what kind, where, in words, and the value that stands there."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any
    ctx: dict[str, Any] | None = None


@frozen(slots=False)
class ErrorPlace:
    """The same in the form of RFC 9457: `pointer` into the body, or the `parameter`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@frozen(slots=False)
class Problem:
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    source: str
    request_id: str


@frozen(slots=False)
class ValidationProblem:
    """A request that cannot be read: every mistake in it at once."""

    type: str
    title: str
    status: int
    detail: list[Mistake]
    code: str
    source: str
    request_id: str
    errors: list[ErrorPlace]
