"""`trio-gateway init`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call
from trio_gateway.config.load import load_config


def test_the_file_is_a_good_config_without_an_endpoint(call: Call) -> None:
    """What is written can be served as it is, and forwards nothing."""
    assert call("init", "gateway.yaml").exit_code == 0
    loaded = load_config("gateway.yaml", {})
    assert loaded.require().endpoints == ()
    assert loaded.warnings == []


def test_without_a_name_it_writes_where_run_will_look(call: Call) -> None:
    """`init`, then `run`: neither needs the path."""
    result = call("init")
    assert result.exit_code == 0
    assert Path("config/config.yaml").is_file()
    assert "config/config.yaml" in result.output


def test_it_never_overwrites(call: Call) -> None:
    """A config that stands there is worth more than a new one."""
    Path("gateway.yaml").write_text("endpoints: []\n")
    result = call("init", "gateway.yaml")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert Path("gateway.yaml").read_text() == "endpoints: []\n"


def test_a_place_that_takes_no_file_is_named(call: Call) -> None:
    """A path through a file is a sentence and exit code 1, not a traceback."""
    Path("file").write_text("")
    result = call("init", "file/gateway.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: file/gateway.yaml: ")
