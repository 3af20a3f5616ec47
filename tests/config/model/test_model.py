"""The config tree as data."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import pytest

from trio_gateway.config import model
from trio_gateway.config.model import BindConfig, CertificateConfig, EndpointConfig, GatewayConfig

BLOCKS = [getattr(model, name) for name in model.__all__]
REQUIRED: dict[type, dict[str, str]] = {
    EndpointConfig: {"url": "http://h/"},
    BindConfig: {"address": "127.0.0.1:8000"},
    CertificateConfig: {"cert": "server.pem", "key": "server.key"},
}


def test_an_endpoint_is_known_by_its_name() -> None:
    """The name is the id; without one, the url gives an id that stays the same from run to run."""
    assert EndpointConfig(url="http://h/", name="users").id == "users"
    digest = hashlib.sha256(b"http://h/").hexdigest()
    assert EndpointConfig(url="http://h/").id == f"endpoint_{digest[:12]}"


@pytest.mark.parametrize("block", BLOCKS)
def test_a_config_cannot_change(block: Any) -> None:
    """A request keeps the config that it started with."""
    instance = block(**REQUIRED.get(block, {}))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(instance, attrs.fields(block)[0].name, None)


def test_equal_files_make_equal_configs() -> None:
    """Configs are compared by value, so a reload can tell what changed."""
    assert GatewayConfig() == GatewayConfig()
    assert EndpointConfig(url="http://a/") != EndpointConfig(url="http://b/")


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_says_what_it_is(block: Any) -> None:
    """Each class of the tree names its key."""
    assert block.__doc__
    assert "`" in block.__doc__ or block is GatewayConfig or block is EndpointConfig
