"""`/openapi.json`: OpenAPI 3.1, read off the table of operations.

Schemas come from the attrs classes that replies are made of, through msgspec; examples come from the
schemas. Nothing here is written twice, so nothing can go stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, get_args

import msgspec

from trio_gateway import __version__
from trio_gateway.admin.operation import Choice, Flag, Integer, Kind, Operation, Parameter
from trio_gateway.admin.shapes import Problem, ValidationProblem

Json = dict[str, Any]
PROBLEM_TYPE = "application/problem+json"

_REF = "#/components/schemas/{name}"
_TITLE = "trio_gateway management API"
_DESCRIPTION = (
    "Everything that operators do with a running gateway. Operations need a bearer token, a JWT with the"
    " scope `read`, `operate` or `write`, each of which includes the ones before it;"
    " `trio-gateway token` prints one."
)
_SECURITY = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


def document(operations: Iterable[Operation]) -> Json:
    """The OpenAPI document of these operations."""
    listed = list(operations)
    schemas, components = _schemas(listed)
    paths: dict[str, Json] = {}
    for operation in listed:
        entry = _operation(operation, schemas, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": _SECURITY}},
    }


def types_of(operation: Operation) -> tuple[type, ...]:
    """The classes that a 200 may carry: several where a reply has more than one shape."""
    if operation.reply is None:
        return ()
    return get_args(operation.reply) or (operation.reply,)


def _schemas(operations: list[Operation]) -> tuple[dict[type, Json], Json]:
    kinds: list[type] = [Problem, ValidationProblem]
    for operation in operations:
        kinds += types_of(operation)
        kinds += [kind for kind in operation.failures.values() if isinstance(kind, type)]
        if operation.body is not None and operation.body.schema is not None:
            kinds.append(operation.body.schema)
    kinds = list(dict.fromkeys(kinds))
    found, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return dict(zip(kinds, found, strict=True)), dict(components)


def _operation(operation: Operation, schemas: Mapping[type, Json], components: Json) -> Json:
    entry: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.scope == "open" else [{"bearer": [operation.scope]}],
        "responses": _responses(operation, schemas, components),
    }
    if operation.description:
        entry["description"] = operation.description
    if operation.parameters:
        entry["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        schema = schemas[operation.body.schema] if operation.body.schema else {"type": "string"}
        content = _content(operation.body.media_type, schema, components)
        entry["requestBody"] = {
            "description": operation.body.doc,
            "required": operation.body.required,
            "content": content,
        }
    return entry


def _parameter(parameter: Parameter) -> Json:
    schema = _kind(parameter.kind)
    if parameter.default is not None:
        schema["default"] = parameter.default
    shown: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.doc,
        "schema": schema,
    }
    if parameter.example is not None:
        shown["example"] = parameter.example
    return shown


def _kind(kind: Kind) -> Json:
    if isinstance(kind, Choice):
        return {"type": "string", "enum": list(kind.words)}
    if isinstance(kind, Integer):
        limits = {"minimum": kind.least} | ({} if kind.most is None else {"maximum": kind.most})
        return {"type": "integer", **limits}
    if isinstance(kind, Flag):
        return {"type": "boolean"}
    return {"type": "string"} | ({} if kind.pattern is None else {"pattern": kind.pattern})


# ---- replies -----------------------------------------------------------------------------------------


def _responses(operation: Operation, schemas: Mapping[type, Json], components: Json) -> Json:
    kinds = types_of(operation)
    if kinds:
        found = [schemas[kind] for kind in kinds]
        ok = _content(operation.media_type, found[0] if len(found) == 1 else {"anyOf": found}, components)
    else:
        ok = {operation.media_type: {}}
    responses: Json = {str(operation.status): {"description": "Done.", "content": ok}}
    problem = {PROBLEM_TYPE: {"schema": schemas[Problem]}}
    if operation.scope != "open":
        responses["401"] = {"description": "No token, or one that is not valid.", "content": problem}
        responses["403"] = {
            "description": "The token's scope is too small, or the host or origin is not allowed.",
            "content": problem,
        }
    for status, failure in operation.failures.items():
        responses[str(status)] = _failure(status, failure, schemas, problem)
    if operation.parameters or operation.body is not None:
        content = {PROBLEM_TYPE: {"schema": schemas[ValidationProblem]}}
        responses["422"] = {"description": "The request has mistakes; all are named.", "content": content}
    responses["default"] = {"description": "What else can go wrong.", "content": problem}
    return responses


def _failure(status: int, failure: str | type, schemas: Mapping[type, Json], problem: Json) -> Json:
    if isinstance(failure, str):
        return {"description": failure, "content": problem}
    content = {"application/json": {"schema": schemas[failure]}}
    return {"description": f"{HTTPStatus(status).phrase}.", "content": content}


def _content(media_type: str, schema: Json, components: Json) -> Json:
    if schema == {"type": "string"}:
        return {media_type: {"schema": schema}}
    return {media_type: {"schema": schema, "example": example(schema, components)}}


def example(schema: Json, components: Json) -> Any:
    """A value that fits a schema: its own example or default where it has one."""
    if "$ref" in schema:
        return example(components[schema["$ref"].rpartition("/")[2]], components)
    for key in ("examples", "enum", "anyOf"):
        if key in schema:
            first = schema[key][0]
            return example(first, components) if key == "anyOf" else first
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    if schema.get("type") == "array":
        return [example(schema["items"], components)] if schema.get("items") else []
    if schema.get("type") == "object":
        required = schema.get("required", ())
        fields = schema.get("properties", {})
        return {name: example(fields[name], components) for name in fields if name in required}
    return _PLAIN.get(schema.get("type", ""))


_PLAIN = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}
