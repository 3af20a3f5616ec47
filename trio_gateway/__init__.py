"""trio_gateway: an HTTP and WebSocket API gateway on Trio.

What users import is loaded when it is first named (PEP 562): a program that only reads a config pays
for no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_gateway.config.load import load_config
    from trio_gateway.supervisor import Gateway

__version__ = "0.1.0"

__all__ = ["Gateway", "__version__", "load_config"]

_HOMES = {"Gateway": "trio_gateway.supervisor", "load_config": "trio_gateway.config.load"}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Everything that can be named, loaded or not."""
    return sorted({*globals(), *_HOMES})
