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


SERVERS = {"hypercorn", "quart", "httptools", "prometheus_client", "structlog", "msgspec", "jwt"}


def imported(program: str, folder: Path) -> set[str]:
    """The modules that a process of its own has when the program has run."""
    shown = f"import sys\n{program}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("verb", ["", *(verb for verb in VERBS if verb not in ("explain", "demo", "run"))])
def test_a_verb_that_does_not_serve_imports_only_what_it_needs(verb: str, tmp_path: Path) -> None:
    """It starts at once: no event loop, no server, no HTTP client. (`explain` asks the code that serves.)"""
    module = f"trio_gateway.cli.{verb}".rstrip(".")
    assert imported(f"import {module}", tmp_path) & (SERVERS | {"trio", "httpx", "asyncio"}) == set()


@pytest.mark.parametrize("words", [["status"], ["token"], ["breaker", "reset", "users"]])
def test_what_a_verb_imports_when_it_is_called(words: list[str], tmp_path: Path) -> None:
    """The operators' verbs take httpx with what that takes; nothing else that only a gateway needs."""
    (tmp_path / "gateway.yaml").write_text("state_dir: state\nserver: {bind: ['127.0.0.1:1']}\n")
    call = f"from trio_gateway.cli import main\ntry: main({[*words, '-c', 'gateway.yaml']})"
    found = imported(f"{call}\nexcept SystemExit: pass", tmp_path)
    assert ("httpx" in found) == (words != ["token"])
    assert found & SERVERS == set()


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
