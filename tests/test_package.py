"""What users import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trio_gateway
from trio_gateway.config.load import load_config
from trio_gateway.supervisor import Gateway


def test_the_public_names_are_the_real_things() -> None:
    """`from trio_gateway import ...` gives what the modules define."""
    assert trio_gateway.Gateway is Gateway
    assert trio_gateway.load_config is load_config
    assert trio_gateway.__version__.count(".") == 2


def test_all_names_are_listed() -> None:
    """Completion shows what can be imported, loaded or not."""
    assert set(trio_gateway.__all__) <= set(dir(trio_gateway))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt import fails as in any other package."""
    with pytest.raises(AttributeError, match="has no attribute 'Gatway'"):
        trio_gateway.Gatway  # noqa: B018


def test_the_import_alone_loads_nothing_else() -> None:
    """Who reads a config pays for no server, and who reads the version for neither."""
    program = (
        "import sys, trio_gateway; print('yaml' in sys.modules, 'trio' in sys.modules)\n"
        "trio_gateway.load_config; print('yaml' in sys.modules, 'trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "False"]
