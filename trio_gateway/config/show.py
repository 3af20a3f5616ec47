"""The effective config as plain data: what the gateway will do, without a secret in it.

A text that took anything from the environment is shown as it is written (`Bearer ${TOKEN}`), since
nobody can tell a secret from an address by its look. What stands in the file itself is hidden where it
is known to be one: passwords in urls, and the values of headers that carry credentials. The YAML form
loads again as the same config, but for what is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import attrs
import yaml

from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.config.positions import Positions
from trio_gateway.config.problems import Path

HIDDEN = "***"

_SECRET_QUERY = re.compile(r"(?<=[?&])([^=&#]*(?:key|pass|secret|sig|token)[^=&#]*=)[^&#]*", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s@]*@")
_SIGNING_SECRET: Path = ("admin", "auth", "jwt", "secret")
_SECRET_HEADER = re.compile(r"auth|cookie|credential|key|pass|secret|session|signature|token", re.IGNORECASE)


def effective(config: GatewayConfig, positions: Positions | None = None) -> dict[str, Any]:
    """Every key with its value, defaults included, as data for JSON. Seconds and bytes are numbers."""
    shown: dict[str, Any] = _plain(config, (), positions or Positions(), False)
    return shown


def effective_yaml(config: GatewayConfig, positions: Positions | None = None) -> str:
    """The same as a config file."""
    shown = _plain(config, (), positions or Positions(), True)
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=110)


def _plain(value: Any, path: Path, positions: Positions, escape: bool) -> Any:
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value)) if _applies(value, field.name)]
        return {name: _plain(getattr(value, name), (*path, name), positions, escape) for name in names}
    if isinstance(value, Mapping):
        return {name: _plain(item, (*path, name), positions, escape) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item, (*path, index), positions, escape) for index, item in enumerate(value)]
    if isinstance(value, IPv4Network | IPv6Network):
        return str(value)
    return _shown_text(value, path, positions, escape) if isinstance(value, str) else value


def _applies(block: Any, name: str) -> bool:
    return not (name == "tls" and isinstance(block, EndpointConfig) and block.url.startswith("http:"))


def _shown_text(text: str, path: Path, positions: Positions, escape: bool) -> str:
    source = positions.text(path)
    if source is not None and source.from_environment:
        return source.written
    if _is_secret(path):
        return HIDDEN
    safe = _USER_INFO.sub(f"{HIDDEN}@", text)
    if "://" in safe:
        safe = _SECRET_QUERY.sub(rf"\1{HIDDEN}", safe)
    return safe.replace("$", "$$") if escape else safe


def _is_secret(path: Path) -> bool:
    """Whether a value is the signing secret, or one of `headers` and `match.headers` that is a credential."""
    if path == _SIGNING_SECRET:
        return True
    return "headers" in path[:-1] and isinstance(path[-1], str) and bool(_SECRET_HEADER.search(path[-1]))
