"""What a client sent, read or told what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.admin.operation import Choice, Flag, Integer, Kind, Operation, Parameter, RequestBody, Text
from trio_gateway.admin.parameters import InvalidRequest, missing, mistake, read_body, read_parameters


def operation(kind: Kind, **more: Any) -> Operation:
    parameter = Parameter("p", "query", kind, "One.", **more)
    return Operation("GET", "/x", "read", lambda plane, call: None, None, parameters=(parameter,))


WORDS = Choice(("active", "inactive", "disabled"))
ONE_OF_THEM = "'active', 'inactive' or 'disabled'"

READ: list[tuple[Kind, str, Any]] = [
    (Text(), "any thing", "any thing"),
    (Text(), "", ""),
    (Integer(1, 1000), "1", 1),
    (Integer(1, 1000), " 1000 ", 1000),
    (Integer(0), "007", 7),
    (Flag(), "true", True),
    (Flag(), "TRUE", True),
    (Flag(), "1", True),
    (Flag(), "off", False),
    (WORDS, "inactive", "inactive"),
]

REFUSED: list[tuple[Kind, str, str, str, dict[str, Any]]] = [
    (Integer(1, 1000), "0", "greater_than_equal", "Input should be greater than or equal to 1", {"ge": 1}),
    (Integer(1, 1000), "1001", "less_than_equal", "Input should be less than or equal to 1000", {"le": 1000}),
    (Integer(0), "-1", "greater_than_equal", "Input should be greater than or equal to 0", {"ge": 0}),
    *[
        (
            Integer(0),
            text,
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
            {},
        )
        for text in ("", "x", "1.5", "1e3", "--1", "٣", "9" * 400, "1_000")
    ],
    (Flag(), "maybe", "bool_parsing", "Input should be a valid boolean, unable to interpret input", {}),
    (Flag(), "", "bool_parsing", "Input should be a valid boolean, unable to interpret input", {}),
    (WORDS, "Active", "enum", f"Input should be {ONE_OF_THEM}", {"expected": ONE_OF_THEM}),
    (Choice(("one",)), "two", "enum", "Input should be 'one'", {"expected": "'one'"}),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_what_fits_is_read(kind: Kind, text: str, value: Any) -> None:
    """In the spellings of the old gateway."""
    assert read_parameters(operation(kind), {}, {"p": text}) == ({"p": value}, [])


@pytest.mark.parametrize(("kind", "text", "type_", "message", "context"), REFUSED)
def test_what_does_not_is_told(
    kind: Kind, text: str, type_: str, message: str, context: dict[str, Any]
) -> None:
    """In the shape and the words that old clients know."""
    _, (told,) = read_parameters(operation(kind), {}, {"p": text})
    expected = {"type": type_, "loc": ["query", "p"], "msg": message, "input": text}
    assert told == expected | ({"ctx": context} if context else {})


def test_what_is_not_there_has_its_default() -> None:
    """None without one, and a mistake where it is required."""
    assert read_parameters(operation(Integer(1), default=5), {}, {}) == ({"p": 5}, [])
    assert read_parameters(operation(Text()), {}, {"q": "1"}) == ({"p": None}, [])
    assert read_parameters(operation(Text(), required=True), {}, {})[1] == [missing(("query", "p"), None)]


def test_path_and_query_are_apart() -> None:
    """A parameter of the path is not read from the query."""
    parameter = Parameter("p", "path", Text(), "One.", required=True)
    row = Operation("GET", "/{p}", "read", lambda plane, call: None, None, parameters=(parameter,))
    assert read_parameters(row, {"p": "a"}, {"p": "b"}) == ({"p": "a"}, [])


JSON = RequestBody("application/json", "A thing.", required=True)


@pytest.mark.parametrize(
    ("body", "data", "read", "types"),
    [
        (JSON, b'{"a": [1, null]}', {"a": [1, None]}, []),
        (JSON, b"", None, ["missing"]),
        (JSON, b" \n", None, ["missing"]),
        (RequestBody("application/json", "Perhaps."), b"", None, []),
        (JSON, b"{", None, ["json_invalid"]),
        (JSON, b'{"a": NaN}', None, ["json_invalid"]),
        (JSON, b'{"a": "\xff"}', None, ["json_invalid"]),
        (JSON, b"[" * 100_000, None, ["json_invalid"]),
        (JSON, b"[]", None, ["model_attributes_type"]),
        (JSON, b"null", None, ["model_attributes_type"]),
        (RequestBody("application/yaml", "Text."), b"{", None, []),
        (None, b"{", None, []),
    ],
)
def test_a_body_is_an_object_or_a_mistake(
    body: RequestBody | None, data: bytes, read: Any, types: list[str]
) -> None:
    """What is no JSON never reaches a view, whatever it is; text is the view's own business."""
    found, mistakes = read_body(body, data)
    assert found == read
    assert [told["type"] for told in mistakes] == types
    assert all(told["loc"] == ["body"] for told in mistakes)


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader(data: bytes) -> None:
    """It is read, or told, and what is told can be sent."""
    found, mistakes = read_body(JSON, data)
    assert (found is None) == bool(mistakes)
    json.dumps(mistakes)


def test_both_forms_say_the_same() -> None:
    """`detail` for old clients, `errors` by RFC 9457: a pointer into the body, or the parameter's name."""
    error = InvalidRequest(
        [
            missing(("query", "config_path"), None),
            mistake("value_error", ("body", "config", "headers", "a/b~", 0), "must not", "x", error="no"),
            missing(("body",), None),
        ]
    )
    assert error.status == 422
    assert error.members["errors"] == [
        {"detail": "Field required", "parameter": "config_path"},
        {"detail": "must not", "pointer": "#/config/headers/a~1b~0/0"},
        {"detail": "Field required", "pointer": "#"},
    ]
    assert error.members["detail"] == error.mistakes
