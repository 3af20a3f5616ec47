"""The config file: what is in force, reading it again, and trying one out."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from trio_gateway.admin.operation import Call, Operation, Parameter, RequestBody, Text
from trio_gateway.admin.parameters import InvalidRequest, missing
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.shapes import EndpointUrl, Seconds, seconds
from trio_gateway.config.load import Loaded, load_config, parse_config
from trio_gateway.config.model import EndpointConfig
from trio_gateway.proxy.aside import beside_the_loop

_LARGEST_FILE = 4 * 1024 * 1024
_VERSION = "1.0.0"  # of the config's format, as the old gateway has it


@frozen(slots=False)
class ReloadReply:
    """How a reload went. `not_applied` names what only a restart changes."""

    success: bool
    message: str
    endpoints_count: int
    errors: list[str]
    not_applied: list[str]


@frozen(slots=False)
class ConfigStatus:
    """Which file is in force, and why the last change to it is not."""

    loaded: bool
    version: str
    config_path: str
    endpoints_count: int
    last_reload_error: str | None
    watching: bool


@frozen(slots=False)
class ConfiguredEndpoint:
    """One endpoint of the file."""

    url: EndpointUrl
    name: str | None
    version: str | None
    methods: list[str]
    auth_type: str
    disabled: bool
    health_check_path: str | None
    timeout: Seconds


@frozen(slots=False)
class ConfiguredEndpoints:
    """All endpoints of the file."""

    endpoints: list[ConfiguredEndpoint]
    total_count: int
    disabled_count: int
    active_count: int


@frozen(slots=False)
class Validation:
    """Whether a config could be used; `error_message` has a line for each mistake."""

    valid: bool
    error_message: str | None
    config_path: str | None


# ---- views -------------------------------------------------------------------------------------------


async def reload_config(plane: Plane, call: Call) -> ReloadReply:  # noqa: ARG001  a view's signature
    """Read the config file again and apply it.

    A file with mistakes changes nothing; `success` is false then and `errors` names them by line.
    """
    result = await plane.reloader.reload()
    message = "Configuration reloaded successfully" if result.success else "Configuration was not reloaded"
    return ReloadReply(
        result.success, message, result.endpoints_count, list(result.errors), list(result.not_applied)
    )


def config_status(plane: Plane, call: Call) -> ConfigStatus:  # noqa: ARG001
    """Show which config file is in force."""
    reloader = plane.reloader
    return ConfigStatus(
        loaded=True,
        version=_VERSION,
        config_path=reloader.path,
        endpoints_count=len(plane.config.endpoints),
        last_reload_error=reloader.last_reload_error,
        watching=reloader.watching,
    )


def configured_endpoints(plane: Plane, call: Call) -> ConfiguredEndpoints:  # noqa: ARG001
    """List the endpoints of the config file."""
    shown = [_shown(endpoint) for endpoint in plane.config.endpoints]
    disabled = sum(endpoint.disabled for endpoint in shown)
    return ConfiguredEndpoints(shown, len(shown), disabled, len(shown) - disabled)


def _shown(endpoint: EndpointConfig) -> ConfiguredEndpoint:
    return ConfiguredEndpoint(
        url=endpoint.url,
        name=endpoint.name,
        version=endpoint.version,
        methods=list(endpoint.methods),
        auth_type=endpoint.auth_type,
        disabled=endpoint.disabled,
        health_check_path=endpoint.health_check_path,
        timeout=seconds(endpoint.timeout),
    )


async def validate_config(plane: Plane, call: Call) -> Validation:
    """Check a config without applying it.

    The body is the YAML of a config; or `config_path` names a file in the folder of the config file.
    """
    path = call["config_path"]
    if call.body.strip():
        loaded = await beside_the_loop(_parse, call.body)
    elif path is not None:
        loaded = await beside_the_loop(_load, path, Path(plane.reloader.path))
    else:
        raise InvalidRequest([missing(("query", "config_path"), None)])
    message = loaded if isinstance(loaded, str) else "\n".join(map(str, loaded.problems))
    return Validation(not message, message or None, path)


def _parse(body: bytes) -> Loaded | str:
    try:
        return parse_config(body.decode("utf-8-sig"), "body", os.environ)
    except UnicodeDecodeError:
        return "body: is not UTF-8 text"


def _load(asked: str, current: Path) -> Loaded | str:
    """A file beside the current one, or why it is none of ours. What lies elsewhere stays unknown."""
    try:
        path = Path(asked).resolve()
        inside = path.is_relative_to(current.parent.resolve()) or path == current.resolve()
        if not inside:
            return "config_path: must lie in the folder of the config file"
        if not path.is_file():
            return "config_path: there is no such file"
        if path.stat().st_size > _LARGEST_FILE:
            return f"config_path: is larger than {_LARGEST_FILE} bytes"
    except (OSError, ValueError, RuntimeError):  # a NUL in the path, a loop of symlinks
        return "config_path: is no usable path"
    return load_config(asked)


OPERATIONS = (
    Operation("POST", "/config/reload", "write", reload_config, ReloadReply),
    Operation("GET", "/config/status", "read", config_status, ConfigStatus),
    Operation("GET", "/config/endpoints", "read", configured_endpoints, ConfiguredEndpoints),
    Operation(
        "POST",
        "/config/validate",
        "read",
        validate_config,
        Validation,
        parameters=(
            Parameter(
                "config_path",
                "query",
                Text(),
                "A file in the folder of the config file; not needed with a body.",
                example="config/config.yaml",
            ),
        ),
        body=RequestBody("application/yaml", "The text of a config file."),
    ),
)
