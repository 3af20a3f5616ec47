"""What an operation says of itself."""

from __future__ import annotations

from trio_gateway.admin.operation import Call, Operation
from trio_gateway.admin.plane import Plane


def do_it(plane: Plane, call: Call) -> None:
    """Do it.

    With `care`,
    and once.
    """


def test_the_view_describes_the_operation() -> None:
    """Name, summary and description are the view's: there is no second text to keep true."""
    row = Operation("POST", "/it", "write", do_it, None)
    assert (row.name, row.summary, row.description) == ("do_it", "Do it", "With `care`,\nand once.")


def test_what_changes_something_is_a_write() -> None:
    """Those leave an audit line: by their scope, not by their method."""
    kinds = {scope: Operation("GET", "/x", scope, do_it, None).is_write for scope in ("open", "read")}
    assert not any(kinds.values())
    assert all(Operation("GET", "/x", scope, do_it, None).is_write for scope in ("operate", "write"))


def test_a_call_gives_its_parameters_by_name() -> None:
    """A view asks for what it takes."""
    assert Call({"limit": 5}, None, b"", b"h", b"/x")["limit"] == 5
