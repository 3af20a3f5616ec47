"""`trio-gateway demo`: its usage and its welcome; the whole of it runs in e2e."""

from __future__ import annotations

import socket

import pytest

from tests.cli.conftest import Call
from trio_gateway.cli.demo import welcome
from trio_gateway.demo.stage import Temper, open_stage
from trio_gateway.proxy.network import MemoryNetwork


async def test_the_welcome_can_be_pasted() -> None:
    """Every url is one that serves, the config stands there in full, and each command has its remark."""
    async with open_stage("127.0.0.1:8000", Temper(), network=MemoryNetwork()) as stage:
        text = welcome(stage)
        for backend in stage.backends.values():
            assert backend.url in text
        for line in stage.config_text.splitlines():
            assert f"  {line}\n" in text
        assert "curl -N 'http://127.0.0.1:8000/orchestrator/events?count=5'" in text
        commands = [line for line in text.splitlines() if line.strip().startswith(("curl", "head"))]
        remarks = [line for line in text.splitlines() if line.strip().startswith("# ")]
        assert len(commands) == len(remarks) == 7


def test_a_taken_address_is_one_line_and_names_the_way_out(call: Call) -> None:
    """Port 8000 is often in use; the user learns which option moves the demo."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        result = call("demo", "--bind", bind)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {bind}: Address already in use; choose another address with --bind\n"


@pytest.mark.parametrize("args", [("--bind", "here"), ("--bind", "unix:/tmp/x"), ("more",)])
def test_bad_usage_ends_with_2(call: Call, args: tuple[str, ...]) -> None:
    """What is no address is refused before anything starts."""
    assert call("demo", *args).exit_code == 2
