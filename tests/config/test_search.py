"""Which file is the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.config.search import create_config, find_config, starter_text


@pytest.mark.parametrize(
    ("cli", "environ", "found"),
    [
        ("a.yaml", {"CONFIG_PATH": "b.yaml"}, ("a.yaml", True)),
        (None, {"CONFIG_PATH": "b.yaml"}, ("b.yaml", True)),
        (None, {"CONFIG_PATH": ""}, ("config/config.yaml", False)),
        (None, {}, ("config/config.yaml", False)),
    ],
)
def test_the_command_line_comes_first(
    cli: str | None, environ: dict[str, str], found: tuple[str, bool]
) -> None:
    """Command line, then environment, then the default, which nobody asked for by name."""
    assert find_config(cli, environ) == found


def test_the_starter_has_no_active_endpoint() -> None:
    """A created file loads without a word and serves nothing."""
    loaded = parse_config(starter_text(), "starter", {})
    assert loaded.require() == GatewayConfig()
    assert loaded.warnings == []


def test_a_config_is_created_once(tmp_path: Path) -> None:
    """Folders are made as needed, and a file that stands there is never overwritten."""
    path = tmp_path / "config" / "config.yaml"
    assert create_config(str(path))
    assert path.read_text(encoding="utf-8") == starter_text()
    path.write_text("log_level: debug\n", encoding="utf-8")
    assert not create_config(str(path))
    assert path.read_text(encoding="utf-8") == "log_level: debug\n"
