"""The group of verbs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.conftest import Call
from trio_gateway.cli import VERBS


@pytest.mark.parametrize("args", [("--help",), ("-h",)])
def test_help_names_every_verb(call: Call, args: tuple[str, ...]) -> None:
    """Who asks for help learns what there is."""
    result = call(*args)
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(call: Call, verb: str) -> None:
    """Each verb that is listed can be called."""
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert f"Usage: main {verb}" in result.output


def test_an_unknown_verb_is_bad_usage(call: Call) -> None:
    """What is no verb ends with 2 and is named."""
    result = call("serve")
    assert result.exit_code == 2
    assert "serve" in result.stderr


def problem_of(result: Result) -> str:
    assert result.exit_code == 2
    return result.stderr


@pytest.mark.parametrize(
    "args", [("-c", "gone.yaml"), ("--config", "gone.yaml"), ("--port", "0", "-c", "gone.yaml")]
)
def test_options_without_a_verb_are_those_of_run(call: Call, args: tuple[str, ...]) -> None:
    """The old gateway had no verbs, so its options work without one."""
    assert "gone.yaml" in problem_of(call(*args))


def test_no_argument_at_all_runs_the_gateway(call: Call) -> None:
    """The bare command serves; here it is told of a file that is not there."""
    assert "gone.yaml" in problem_of(call(CONFIG_PATH="gone.yaml"))


@pytest.mark.parametrize("verb", ["", "version", "init", "check"])
def test_a_verb_imports_only_what_it_needs(verb: str) -> None:
    """A verb that does not serve starts at once: no event loop, no server, no HTTP client."""
    module = f"trio_gateway.cli.{verb}".rstrip(".")
    heavy = {"trio", "hypercorn", "quart", "httpx", "httptools", "prometheus_client", "structlog"}
    program = f"import sys, {module}; print(*(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_package_can_be_run_as_a_module(tmp_path: Path) -> None:
    """`python -m trio_gateway` is the same command under that name."""
    done = subprocess.run(
        [sys.executable, "-m", "trio_gateway", "check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "Usage: python -m trio_gateway check" in done.stderr
