"""From what a client sent to what a view may rely on; every mistake is told at once, in a 422.

The list that old clients read, `detail`, has the shape and the words that they know. The same mistakes
stand in `errors` as RFC 9457 has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trio_gateway.admin.operation import Choice, Flag, Integer, Kind, Operation, Parameter, RequestBody
from trio_gateway.errors import ClientError

_TRUE = frozenset(("true", "1", "yes", "on", "t", "y"))
_FALSE = frozenset(("false", "0", "no", "off", "f", "n"))
_MOST_DIGITS = 18
Mistakes = list[dict[str, Any]]


class InvalidRequest(ClientError):
    """Parameters or body are not what the operation takes; `mistakes` has each of them."""

    status = 422
    code = "validation_failed"
    default_detail = "The request has mistakes"

    def __init__(self, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        super().__init__(members={"detail": mistakes, "errors": [_place(mistake) for mistake in mistakes]})


def mistake(
    kind: str, loc: Iterable[str | int], message: str, value: Any, **context: object
) -> dict[str, Any]:
    """One item of `detail`."""
    told = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return told | {"ctx": context} if context else told


def missing(loc: Iterable[str | int], value: Any) -> dict[str, Any]:
    """Something is required and not there; `value` is what it should have been in."""
    return mistake("missing", loc, "Field required", value)


def _place(told: Mapping[str, Any]) -> dict[str, str]:
    where, *rest = told["loc"]
    if where == "body":
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in rest)
        return {"detail": told["msg"], "pointer": f"#{pointer}"}
    return {"detail": told["msg"], "parameter": str(rest[0])}


# ---- parameters --------------------------------------------------------------------------------------


def read_parameters(
    operation: Operation, path: Mapping[str, str], query: Mapping[str, str]
) -> tuple[dict[str, Any], Mistakes]:
    """The values of an operation's parameters, and what is wrong with them."""
    values: dict[str, Any] = {}
    mistakes: Mistakes = []
    for parameter in operation.parameters:
        given = (path if parameter.where == "path" else query).get(parameter.name)
        loc = (parameter.where, parameter.name)
        if given is None:
            values[parameter.name] = parameter.default
            if parameter.required:
                mistakes.append(missing(loc, None))
            continue
        values[parameter.name], told = _read(parameter.kind, given, loc)
        mistakes += told
    return values, mistakes


def _read(kind: Kind, given: str, loc: tuple[str, str]) -> tuple[Any, Mistakes]:
    if isinstance(kind, Choice):
        return given, _check_choice(kind, given, loc)
    if isinstance(kind, Integer):
        return _read_integer(kind, given, loc)
    if isinstance(kind, Flag):
        return _read_flag(given, loc)
    return given, []


def _check_choice(kind: Choice, given: Any, loc: Iterable[str | int]) -> Mistakes:
    if given in kind.words:
        return []
    *most, last = (f"'{word}'" for word in kind.words)
    expected = f"{', '.join(most)} or {last}" if most else last
    return [mistake("enum", loc, f"Input should be {expected}", given, expected=expected)]


def _read_integer(kind: Integer, given: str, loc: tuple[str, str]) -> tuple[int | None, Mistakes]:
    digits = given.strip()
    if not digits.removeprefix("-").isdecimal() or not digits.isascii() or len(digits) > _MOST_DIGITS:
        message = "Input should be a valid integer, unable to parse string as an integer"
        return None, [mistake("int_parsing", loc, message, given)]
    number = int(digits)
    if number < kind.least:
        message = f"Input should be greater than or equal to {kind.least}"
        return None, [mistake("greater_than_equal", loc, message, given, ge=kind.least)]
    if kind.most is not None and number > kind.most:
        message = f"Input should be less than or equal to {kind.most}"
        return None, [mistake("less_than_equal", loc, message, given, le=kind.most)]
    return number, []


def _read_flag(given: str, loc: tuple[str, str]) -> tuple[bool | None, Mistakes]:
    word = given.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE, []
    message = "Input should be a valid boolean, unable to interpret input"
    return None, [mistake("bool_parsing", loc, message, given)]


def check_choice(parameter: Parameter, given: object, loc: Iterable[str | int]) -> Mistakes:
    """What is wrong with a value of a choice that came in a body."""
    assert isinstance(parameter.kind, Choice)
    return _check_choice(parameter.kind, given, loc)


# ---- bodies ------------------------------------------------------------------------------------------


def read_body(body: RequestBody | None, data: bytes) -> tuple[Any, Mistakes]:
    """The JSON of a body, or None where there is none; text stays for the view to read."""
    if body is None or body.media_type != "application/json":
        return None, []
    if not data.strip():
        return None, [missing(("body",), None)] if body.required else []
    try:
        read = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return None, [mistake("json_invalid", ("body",), "JSON decode error", {}, error=str(error))]
    if not isinstance(read, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        return None, [mistake("model_attributes_type", ("body",), message, read)]
    return read, []
