"""`trio-gateway run`, up to the point where it would serve; real processes are tested in e2e.

240.0.0.1 is a reserved address (RFC 1112 4) that no machine has: listening there fails at once, and
the line that says so tells where `run` meant to listen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.conftest import Call
from trio_gateway.cli.run import override
from trio_gateway.config.model import GatewayConfig

NOWHERE = "240.0.0.1"
FILE = f"""
server: {{bind: ["{NOWHERE}:8001", "{NOWHERE}:8002"]}}
endpoints: [{{url: http://127.0.0.1:1, name: a}}]
"""


@pytest.fixture(autouse=True)
def file(call: Call) -> None:
    """The config that the tests name."""
    Path("gateway.yaml").write_text(FILE)


def lines(result: Result) -> list[dict[str, Any]]:
    """The log, which is JSON where standard error is no terminal."""
    return [json.loads(line) for line in result.stderr.splitlines()]


def listens_on(result: Result) -> list[str]:
    """Where it tried to listen, in vain."""
    assert result.exit_code == 1
    (line,) = [line for line in lines(result) if line["event"] == "cannot listen"]
    assert line["error"].endswith(": Cannot assign requested address")
    return list(line["on"])


# ---- where to listen ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "environ", "expected"),
    [
        ((), {}, ["240.0.0.1:8001", "240.0.0.1:8002"]),
        (("--bind", "240.0.0.1:9"), {}, ["240.0.0.1:9"]),
        (("--bind", "240.0.0.1:9", "--bind", "240.0.0.1:10"), {}, ["240.0.0.1:9", "240.0.0.1:10"]),
        (("--bind", "240.0.0.1:9", "--bind", "240.0.0.1:9"), {}, ["240.0.0.1:9"]),
        (("--bind", "240.0.0.1:9"), {"HOST": "127.0.0.1", "PORT": "7"}, ["240.0.0.1:9"]),
        ((), {"HOST": "240.0.0.2", "PORT": "7"}, ["240.0.0.2:7"]),
        (("--port", "9"), {"HOST": "240.0.0.2", "PORT": "7"}, ["240.0.0.2:9"]),
        (("--host", "240.0.0.3"), {"HOST": "240.0.0.2", "PORT": "7"}, ["240.0.0.3:7"]),
        (("--port", "9"), {}, ["240.0.0.1:9"]),
        (("--host", "240.0.0.3"), {}, ["240.0.0.3:8001"]),
        (("--host", "2001:db8::1", "--port", "9"), {}, ["[2001:db8::1]:9"]),
        (("--host", "[2001:db8::1]", "--port", "9"), {}, ["[2001:db8::1]:9"]),
        ((), {"HOST": "", "PORT": ""}, ["240.0.0.1:8001", "240.0.0.1:8002"]),
    ],
)
def test_where_to_listen(
    call: Call, args: tuple[str, ...], environ: dict[str, str], expected: list[str]
) -> None:
    """Command line before environment before file; what is named replaces all of the file's addresses."""
    assert listens_on(call("run", "-c", "gateway.yaml", *args, **environ)) == expected


def test_an_address_that_cannot_be_had_is_one_line(call: Call) -> None:
    """The operator reads where and why, without a traceback."""
    result = call("run", "-c", "gateway.yaml", "--log-format", "text")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "240.0.0.1:8001" in line
    assert "Cannot assign requested address" in line


@pytest.mark.parametrize(
    ("args", "environ"),
    [
        (("--bind", "nowhere"), {}),
        (("--bind", "unix:run/gateway"), {}),
        (("--bind", "240.0.0.1:9", "--port", "8"), {}),
        (("--port", "65536"), {}),
        (("--host", "not a host"), {}),
        (("--log-level", "loud"), {}),
        (("--log-format", "xml"), {}),
        (("surplus",), {}),
        ((), {"PORT": "http"}),
        ((), {"LOG_LEVEL": "loud"}),
    ],
)
def test_bad_usage_ends_with_2(call: Call, args: tuple[str, ...], environ: dict[str, str]) -> None:
    """What can't be meant is refused before anything starts."""
    result = call("run", "-c", "gateway.yaml", *args, **environ)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


# ---- which file -----------------------------------------------------------------------------------


def test_a_named_file_that_is_missing_is_bad_config(call: Call) -> None:
    """Only the default file is made up; a name that leads nowhere is a mistake."""
    for result in (call("run", "-c", "gone.yaml"), call("run", CONFIG_PATH="gone.yaml")):
        assert result.exit_code == 2
        assert result.stderr.startswith("gone.yaml: cannot be read")
        assert not Path("gone.yaml").exists()


def test_the_command_line_s_file_comes_before_the_environment_s(call: Call) -> None:
    """--config wins over CONFIG_PATH."""
    assert listens_on(call("run", "-c", "gateway.yaml", CONFIG_PATH="gone.yaml"))


def test_the_default_file_is_created(call: Call) -> None:
    """On an empty machine `run` writes the starter, says so, and goes on with it."""
    result = call("run", "--bind", "240.0.0.1:9")
    assert listens_on(result) == ["240.0.0.1:9"]
    assert Path("config/config.yaml").is_file()
    assert lines(result)[0]["config"] == "config/config.yaml"
    again = call("run", "--bind", "240.0.0.1:9")
    assert len(lines(again)) == 1


def test_a_default_file_that_cannot_be_created_is_named(call: Call) -> None:
    """Where the folder can't be made, the file is the problem."""
    Path("config").write_text("")
    result = call("run")
    assert result.exit_code == 2
    assert result.stderr.startswith("config/config.yaml: cannot be created")


def test_a_bad_file_ends_with_2_and_all_its_mistakes(call: Call) -> None:
    """`run` says about a file what `check` says."""
    Path("gateway.yaml").write_text("endpoints: [{url: ftp://a}, {url: http://b, name: 1 2}]\n")
    ran, checked = call("run", "-c", "gateway.yaml"), call("check", "gateway.yaml")
    assert ran.exit_code == checked.exit_code == 2
    assert ran.stderr == checked.stderr
    assert len(ran.stderr.splitlines()) >= 3


def test_validate_only_is_check(call: Call) -> None:
    """Nothing is started, whatever the file says."""
    ran, checked = call("run", "-c", "gateway.yaml", "--validate-only"), call("check", "gateway.yaml")
    assert ran.exit_code == 0
    assert ran.stdout == checked.stdout
    assert call("run", "-c", "gone.yaml", "--validate-only").exit_code == 2


def test_a_certificate_that_cannot_be_read_is_bad_config(call: Call) -> None:
    """What only serving can find out about a file still ends with 2."""
    Path("gateway.yaml").write_text("endpoints: [{url: https://a, name: a, tls: {ca: gone.pem}}]\n")
    result = call("run", "-c", "gateway.yaml", "--bind", "127.0.0.1:0")
    assert result.exit_code == 2
    assert "endpoint a: tls: " in result.stderr


# ---- what is said ---------------------------------------------------------------------------------


def test_what_should_be_known_is_logged(call: Call) -> None:
    """Ignored keys, waiting variables and a --reload without effect are warnings, and serving goes on."""
    Path("gateway.yaml").write_text(FILE + "loglevel: debug\n")
    logged = lines(call("run", "-c", "gateway.yaml", "--reload", WORKERS="4"))
    warnings = [line.get("problem", line["event"]) for line in logged if line["level"] == "warning"]
    assert any("loglevel: unknown key, ignored; did you mean `log_level`?" in text for text in warnings)
    assert any("WORKERS" in text for text in warnings)
    assert any("--reload" in text for text in warnings)
    assert logged[-1]["event"] == "cannot listen"


@pytest.mark.parametrize(
    ("args", "environ", "seen"),
    [
        ((), {}, True),
        (("--log-level", "error"), {}, False),
        ((), {"LOG_LEVEL": "ERROR"}, False),
        (("--log-level", "warning"), {"LOG_LEVEL": "error"}, True),
    ],
)
def test_the_log_level(call: Call, args: tuple[str, ...], environ: dict[str, str], seen: bool) -> None:
    """Command line before environment before file, in either case."""
    result = call("run", "-c", "gateway.yaml", "--reload", *args, **environ)
    assert any("--reload" in line["event"] for line in lines(result)) is seen


def test_what_is_not_named_stays_as_the_file_says() -> None:
    """An override changes its own field and nothing else."""
    config = GatewayConfig()
    assert override(config, config.server.bind, None, None) == config
    changed = override(config, ("127.0.0.1:1",), "debug", "json")
    assert (changed.server.bind, changed.log_level, changed.logging.format) == (
        ("127.0.0.1:1",),
        "DEBUG",
        "json",
    )
    assert changed.server.limits == config.server.limits
