"""How an endpoint of the config is written in JSON, as attrs classes that msgspec can make a schema of.

The model says what the gateway holds: seconds, bytes, networks. Who writes a config writes texts, too:
`250ms`, `64KiB`, `10.0.0.0/8`. The parser that stands in a field's type tells how its values are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
from msgspec import Meta

from trio_gateway.config import addresses, tokens, values

_DURATION = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$", examples=["5s"])]
_SIZE = Annotated[str, Meta(pattern=r"^[0-9]+([kKMG]i?)?B$", examples=["64KiB"])]
_STATUS = Annotated[int, Meta(ge=200, le=599)]

_WRITTEN: dict[Any, Any] = {
    values.duration: Annotated[float, Meta(gt=0)] | _DURATION,
    values.duration_or_zero: Annotated[float, Meta(ge=0)] | _DURATION,
    values.size: Annotated[int, Meta(ge=1)] | _SIZE,
    values.size_or_zero: Annotated[int, Meta(ge=0)] | _SIZE,
    values.integer: int,
    values.count: Annotated[int, Meta(ge=1)],
    values.count_or_zero: Annotated[int, Meta(ge=0)],
    values.percent: Annotated[float, Meta(gt=0, le=100)],
    values.percent_or_zero: Annotated[float, Meta(ge=0, le=100)],
    values.factor: Annotated[float, Meta(ge=1)],
    addresses.http_url: Annotated[
        str, Meta(pattern="^https?://", extra_json_schema={"format": "uri"}, examples=["http://users.internal:9001/"])
    ],
    addresses.network: Annotated[str, Meta(examples=["10.0.0.0/8"])],
    addresses.path_prefix: Annotated[str, Meta(pattern="^/")],
    tokens.endpoint_name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$", examples=["users"])],
    tokens.endpoint_version: Annotated[str, Meta(pattern=r"^v?[0-9]+(\.[0-9]+)*$", examples=["v1"])],
    tokens.http_method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"],
    tokens.body_status: _STATUS,
    tokens.failure: Literal["connect", "timeout", "reset", "gateway_error", "5xx"] | _STATUS,
}  # fmt: skip


@cache
def written(block: type) -> type:
    """A block of the config as it is written: a class of the same name whose fields take what is read."""
    hints = get_type_hints(block, include_extras=True)
    fields = {}
    for each in attrs.fields(block):
        default = attrs.NOTHING if each.default is attrs.NOTHING else None
        kind = _as_written(hints[each.name])
        fields[each.name] = attrs.field(
            type=kind if default is attrs.NOTHING else kind | None, default=default
        )
    found = attrs.make_class(block.__name__, fields, slots=False)
    found.__doc__ = (block.__doc__ or "").replace("`", "")
    return found


def _as_written(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _WRITTEN.get(hint.__metadata__[0], str)
    if origin in (Union, UnionType):
        return _as_written(next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return list[_as_written(args[0])]  # type: ignore[misc]  # made at run time
    if origin is Mapping:
        return dict[str, Any if args[1] is Any else _as_written(args[1])]  # type: ignore[misc]
    return written(hint) if attrs.has(hint) else hint
