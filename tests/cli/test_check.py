"""`trio-gateway check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from trio_gateway.config.load import load_config

GOOD = """
endpoints:
  - {url: "http://backend:8080", name: users, timeout: 5s, headers: {request: {set: {X-Key: "${KEY}"}}}}
"""
WARNED = "endpoints: [{url: http://a, name: a, timout: 5}]\n"
BAD = """
server: {prefx: /x}
workers: 2
endpoints:
  - {url: ftp://a, name: a}
  - {url: http://b, name: b, timeout: soon}
"""


@pytest.fixture(autouse=True)
def files(call: Call) -> None:
    """The files that the tests name."""
    for name, text in (("good", GOOD), ("warned", WARNED), ("bad", BAD)):
        Path(f"{name}.yaml").write_text(text.lstrip("\n"))


def test_the_output_is_a_config_file_again(call: Call) -> None:
    """What is printed loads as what would be in force, defaults spelled out."""
    result = call("check", "good.yaml", KEY="hunter2")
    assert result.exit_code == 0
    Path("again.yaml").write_text(result.stdout)
    again = load_config("again.yaml", {"KEY": "hunter2"}).require()
    assert again == load_config("good.yaml", {"KEY": "hunter2"}).require()


def test_no_secret_is_printed(call: Call) -> None:
    """What the environment holds stays there, in both forms."""
    for form in ((), ("--json",)):
        result = call("check", "good.yaml", *form, KEY="hunter2")
        assert result.exit_code == 0
        assert "hunter2" not in result.output
        assert "${KEY}" in result.output


def test_every_mistake_is_named_with_its_place(call: Call) -> None:
    """One call tells all: file, line, column, path and what to do."""
    result = call("check", "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines[:3]] == ["bad.yaml:2:1", "bad.yaml:4:11", "bad.yaml:5:39"]
    assert "workers: not available in this version" in lines[0]
    assert "server.prefx: warning: unknown key, ignored; did you mean `prefix`?" in lines[3]
    assert lines[-1] == "3 problems: the file can't be used"


def test_warnings_alone_leave_the_file_usable(call: Call) -> None:
    """An unknown key is told, and ignored as the old gateway did."""
    result = call("check", "warned.yaml")
    assert result.exit_code == 0
    assert "did you mean `timeout`?" in result.stderr
    assert "timeout: 30.0" in result.stdout


def test_strict_counts_warnings_as_mistakes(call: Call) -> None:
    """With --strict a file is good only when there is nothing to say about it."""
    result = call("check", "--strict", "warned.yaml")
    assert result.exit_code == 2
    assert "warning" not in result.stderr
    assert "1 problem: the file can't be used" in result.stderr


def test_json_is_one_object_with_everything(call: Call) -> None:
    """A program reads verdict, problems and effective config from standard output."""
    good = json.loads(call("check", "--json", "good.yaml", KEY="x").stdout)
    assert good["valid"] is True
    assert good["problems"] == good["warnings"] == []
    assert good["config"]["endpoints"][0]["timeout"] == 5.0

    result = call("check", "--json", "bad.yaml")
    bad = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (bad["valid"], bad["config"]) == (False, None)
    assert bad["problems"][1] == {
        "file": "bad.yaml",
        "line": 4,
        "col": 11,
        "path": "endpoints[0].url",
        "message": bad["problems"][1]["message"],
    }
    assert [warning["path"] for warning in bad["warnings"]] == ["server.prefx"]


@pytest.mark.parametrize("args", [("gone.yaml",), ("--json", "gone.yaml"), ("good.yaml",)])
def test_what_cannot_be_read_or_expanded_is_bad_config(call: Call, args: tuple[str, ...]) -> None:
    """A missing file and an unset variable end with 2, like every other mistake."""
    assert call("check", *args).exit_code == 2
