"""`/openapi.json`, read off the table. That it is true, schemathesis tests."""

from __future__ import annotations

from typing import Any, Literal

import jsonschema_rs
import pytest
from attrs import frozen

from trio_gateway.admin.openapi import document, example, types_of
from trio_gateway.admin.operation import (
    ENDPOINT_ID,
    Choice,
    Flag,
    Integer,
    Operation,
    Parameter,
    RequestBody,
    Text,
)
from trio_gateway.admin.operations import shown
from trio_gateway.admin.plane import Plane
from trio_gateway.config.model import GatewayConfig

DOCUMENT = document(shown(GatewayConfig(), "shared"))
COMPONENTS = DOCUMENT["components"]["schemas"]


@frozen(slots=False)
class Thing:
    """A thing."""

    kind: Literal["big", "small"]
    parts: list[str]
    note: str | None = None


@frozen(slots=False)
class Nothing:
    """No thing."""

    error: str


def find_thing(plane: Plane, call: object) -> Thing:
    """Find a thing."""
    raise NotImplementedError


ROW = Operation(
    "GET",
    "/things/{endpoint_id}",
    "operate",
    find_thing,
    Thing | Nothing,
    parameters=(
        ENDPOINT_ID,
        Parameter("size", "query", Integer(1, 9), "How big.", default=3),
        Parameter("all", "query", Flag(), "Whether all."),
        Parameter("kind", "query", Choice(("big", "small")), "Which."),
        Parameter("word", "query", Text("^a"), "A word."),
    ),
    body=RequestBody("application/json", "A thing.", Thing),
    failures={404: "There is none.", 503: Nothing},
    tag="things",
)
ENTRY = document([ROW])["paths"]["/things/{endpoint_id}"]["get"]


def operations() -> list[Any]:
    return [entry for methods in DOCUMENT["paths"].values() for entry in methods.values()]


def test_an_operation_is_described_as_its_row_says() -> None:
    """Id, words, tag and the scope that it takes."""
    assert (ENTRY["operationId"], ENTRY["summary"], ENTRY["tags"]) == (
        "find_thing",
        "Find a thing",
        ["things"],
    )
    assert ENTRY["security"] == [{"bearer": ["operate"]}]
    assert "description" not in ENTRY


def test_parameters_have_their_limits() -> None:
    """As the reader of parameters enforces them."""
    schemas = {each["name"]: each["schema"] for each in ENTRY["parameters"]}
    assert schemas == {
        "endpoint_id": {"type": "string"},
        "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "all": {"type": "boolean"},
        "kind": {"type": "string", "enum": ["big", "small"]},
        "word": {"type": "string", "pattern": "^a"},
    }
    assert [each["required"] for each in ENTRY["parameters"]] == [True, False, False, False, False]
    assert ENTRY["parameters"][0]["example"] == "users"


def test_replies_carry_what_their_classes_say() -> None:
    """One schema, or one of several; failures in words or as a class; 401 and 403 where a token is needed."""
    assert types_of(ROW) == (Thing, Nothing)
    replies = ENTRY["responses"]
    assert set(replies) == {"200", "401", "403", "404", "422", "503", "default"}
    refs = [
        each["$ref"].rpartition("/")[2]
        for each in replies["200"]["content"]["application/json"]["schema"]["anyOf"]
    ]
    assert refs == ["Thing", "Nothing"]
    assert replies["503"]["content"]["application/json"]["schema"]["$ref"].endswith("/Nothing")
    assert replies["404"]["description"] == "There is none."
    assert "application/problem+json" in replies["404"]["content"]


def test_open_operations_say_so() -> None:
    """No security, and no reply that only a token explains."""
    entry = DOCUMENT["paths"]["/livez"]["get"]
    assert entry["security"] == []
    assert not {"401", "403"}.intersection(entry["responses"])


def test_every_reply_and_body_has_an_example_that_fits() -> None:
    """An example is made from the schema, and holds against it."""
    checked = 0
    for entry in operations():
        bodies = [entry["requestBody"]] if "requestBody" in entry else []
        for holder in (*bodies, *entry["responses"].values()):
            for shape in holder["content"].values():
                if "example" in shape:
                    schema = {**shape["schema"], "components": {"schemas": COMPONENTS}}
                    jsonschema_rs.validate(schema, shape["example"])
                    checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "examples": ["x"]}, "x"),
        ({"enum": ["b", "a"]}, "b"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"const": 7}, 7),
        ({"type": "integer", "default": 3}, 3),
        ({"type": "array", "items": {"type": "boolean"}}, [True]),
        ({"type": "array"}, []),
        ({"type": "null"}, None),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "required": ["a"],
            },
            {"a": "text"},
        ),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {}),
        ({"$ref": "#/components/schemas/Thing"}, {"kind": "big", "parts": ["text"]}),
    ],
)
def test_an_example_follows_its_schema(schema: dict[str, Any], value: object) -> None:
    """Its own example first, then whatever the schema leaves no choice about."""
    assert example(schema, document([ROW])["components"]["schemas"]) == value
