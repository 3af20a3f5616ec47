"""What a management operation is: one object that routes, documents and guards it.

An operation is a row of a table. Its route, its entry in `/openapi.json` and on `/docs`, and the scope
that its callers need are all read off that row, so they cannot differ. Its view is a plain function from
the control plane and a checked call to a reply; the words that describe it are the view's docstring.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import UnionType
from typing import Any, Literal

from attrs import field, frozen

from trio_gateway.admin.plane import Plane
from trio_gateway.admin.tokens import Scope

Method = Literal["GET", "POST", "PUT", "DELETE"]


@frozen
class Text:
    """Any text."""

    pattern: str | None = None


@frozen
class Integer:
    """A whole number within limits."""

    least: int
    most: int | None = None


@frozen
class Flag:
    """true or false, in the spellings of the old gateway."""


@frozen
class Choice:
    """One of a few words."""

    words: tuple[str, ...]


Kind = Text | Integer | Flag | Choice


@frozen
class Parameter:
    """One value from the path or the query. A parameter without a default that is not there is None."""

    name: str
    where: Literal["path", "query"]
    kind: Kind
    doc: str
    default: Any = None
    required: bool = False
    example: Any = None


@frozen
class RequestBody:
    """What a request may carry. JSON is decoded before a view sees it; `schema` is an attrs class."""

    media_type: str
    doc: str
    schema: type | None = None
    required: bool = False


@frozen
class Call:
    """One request to an operation: checked parameters, the body, and what surrounds it."""

    parameters: Mapping[str, Any]
    data: Any  # of a JSON body; None without one
    body: bytes
    host: bytes
    raw_path: bytes

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


@frozen
class Answer:
    """A reply that is no plain 200 with JSON."""

    status: int
    content: Any
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(factory=dict)


View = Callable[[Plane, Call], Any | Awaitable[Any]]


@frozen
class Operation:
    """One row of the table. `path` has its parameters in braces; `reply` is what a 200 carries.

    `failures` are the statuses that this operation adds to those that every one can answer: what each
    means, or the class of what it carries. `status` is what stands for success.
    """

    method: Method
    path: str
    scope: Scope
    view: View
    reply: type | UnionType | None
    parameters: tuple[Parameter, ...] = ()
    body: RequestBody | None = None
    failures: Mapping[int, str | type] = field(factory=dict)
    media_type: str = "application/json"
    status: int = 200
    tag: str = ""

    @property
    def name(self) -> str:
        """The operation's id: its view's name, which is unique in the table."""
        return self.view.__name__

    @property
    def summary(self) -> str:
        """The first line of the view's docstring."""
        return (self.view.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    @property
    def description(self) -> str:
        """The rest of it."""
        lines = (self.view.__doc__ or "").strip().splitlines()[1:]
        return "\n".join(line.strip() for line in lines).strip()

    @property
    def is_write(self) -> bool:
        """Whether it changes something, and so leaves an audit line."""
        return self.scope in ("operate", "write")


# ---- parameters that several operations share ------------------------------------------------------

ENDPOINT_ID = Parameter(
    "endpoint_id", "path", Text(), "The endpoint's id: its name, or what the registry shows.", required=True,
    example="users",
)  # fmt: skip
NO_SUCH_ENDPOINT = {404: "There is no such endpoint."}
