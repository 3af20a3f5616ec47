"""The end of `run`: exit codes and last lines. Real processes are tested in e2e."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from attrs import evolve

from tests.cli.conftest import Call
from trio_gateway.cli.serving import open_access_log, serve
from trio_gateway.config.model import BindConfig, GatewayConfig, LoggingConfig, ServerConfig
from trio_gateway.config.source import Table
from trio_gateway.supervisor import Source


def test_an_address_that_cannot_be_had_is_a_failure(call: Call) -> None:
    """The exit code is 1, and nothing is left that would keep the program alive."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = (BindConfig(f"127.0.0.1:{taken.getsockname()[1]}"),)
        config = GatewayConfig(server=ServerConfig(bind=bind), state_dir="state")
        assert serve(config, Source("gateway.yaml", Table(), b"")) == 1


def test_of_several_addresses_none_stays_bound_when_one_fails(call: Call) -> None:
    """The free one can be had again at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        ports = free.getsockname()[1], taken.getsockname()[1]
        free.close()
        Path("gateway.yaml").write_text("endpoints: []\n")
        binds = [argument for port in ports for argument in ("--bind", f"127.0.0.1:{port}")]
        result = call("run", "-c", "gateway.yaml", *binds)
        assert result.exit_code == 1
        assert json.loads(result.stderr)["error"] == f"127.0.0.1:{ports[1]}: Address already in use"
        socket.create_server(("127.0.0.1", ports[0])).close()


def test_the_access_log_follows_the_config() -> None:
    """None where it is switched off; else in the format that is named, or JSON where nobody looks on."""
    config = GatewayConfig()
    unnamed = "text" if os.isatty(1) else "json"
    assert open_access_log(evolve(config, logging=LoggingConfig(access_log=False))) is None
    for name, expected in (("text", "text"), ("json", "json"), ("auto", unnamed)):
        log = open_access_log(evolve(config, logging=LoggingConfig(format=name)))  # type: ignore[arg-type]
        assert log is not None
        assert log.format == expected
        assert log.close(1.0)
