"""`trio-gateway version`."""

from __future__ import annotations

import platform

import pytest

from tests.cli.conftest import Call
from trio_gateway import __version__


@pytest.mark.parametrize("args", [("version",), ("--version",)])
def test_the_version_is_the_package_s(call: Call, args: tuple[str, ...]) -> None:
    """A bug report can say which gateway it is about."""
    result = call(*args)
    assert result.exit_code == 0
    assert f"trio-gateway {__version__}" in result.output


def test_the_verb_names_what_the_gateway_stands_on(call: Call) -> None:
    """Python and Trio belong in a bug report too."""
    output = call("version").output
    assert "trio 0." in output
    assert f"Python {platform.python_version()}" in output
