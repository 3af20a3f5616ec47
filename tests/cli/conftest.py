"""The command line, called in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from trio_gateway.cli import main

Call = Callable[..., Result]

VARIABLES = (
    "HOST",
    "PORT",
    "RELOAD",
    "LOG_LEVEL",
    "CONFIG_PATH",
    "STATE_DIRECTORY",
    "TRIO_GATEWAY_TOKEN",
    "WORKERS",
    "MAX_REQUESTS",
    "TIMEOUT",
)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Call the command line in an empty folder, with the environment that a test names."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def called(*args: str, **environ: str) -> Result:
        return CliRunner().invoke(main, args, env=environ)

    yield called
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
