"""Which file is the config, and what it contains when there was none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

DEFAULT_PATH = "config/config.yaml"


def find_config(cli: str | None, environ: Mapping[str, str]) -> tuple[str, bool]:
    """The path, and whether somebody asked for it: `--config`, then `CONFIG_PATH`, then the default.

    A path that was asked for and is missing is an error; the default one may be created.
    """
    asked = cli or environ.get("CONFIG_PATH")
    return (asked, True) if asked else (DEFAULT_PATH, False)


def starter_text() -> str:
    """A commented config file without an active endpoint: what `init` writes."""
    return files("trio_gateway.config").joinpath("starter.yaml").read_text(encoding="utf-8")


def create_config(path: str) -> bool:
    """Write the starter to `path` unless something stands there; True when written. Raises OSError."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(starter_text())
    except FileExistsError:
        return False
    return True
