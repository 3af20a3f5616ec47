"""The files that we give to users say what the model says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest
import yaml

from trio_gateway.config.load import ENDPOINT_DEFAULTS, parse_config
from trio_gateway.config.model import EndpointConfig, GatewayConfig
from trio_gateway.config.search import starter_text

EXAMPLE = Path(__file__).parents[2].joinpath("config.example.yaml").read_text(encoding="utf-8")


def uncommented(text: str) -> str:
    """All YAML in comments made active; remarks are "# " and a word."""
    return re.sub(r"^#(?=\S|  )", "", text, flags=re.MULTILINE)


def test_the_example_loads_as_it_is() -> None:
    """Copied and run, it is all defaults and no warning."""
    loaded = parse_config(EXAMPLE, "config.example.yaml", {})
    assert loaded.require() == GatewayConfig()
    assert loaded.warnings == []


def test_the_example_tells_the_true_defaults() -> None:
    """Every value in it, made active, equals the model's default."""
    loaded = parse_config(uncommented(EXAMPLE), "config.example.yaml", {})
    config = loaded.require()
    (endpoint,) = config.endpoints
    assert attrs.evolve(config, endpoints=()) == GatewayConfig()
    assert endpoint == EndpointConfig(url="https://api.example.com/v1", name="users", version="v1")
    assert loaded.warnings == []


def test_the_example_names_every_key() -> None:
    """No key of the model is missing from it."""
    tree = yaml.safe_load(uncommented(EXAMPLE))
    assert set(missing(GatewayConfig, tree, "")) == set()
    endpoint = {key: tree[key] for key in ENDPOINT_DEFAULTS} | tree["endpoints"][0]
    assert set(missing(EndpointConfig, endpoint, "endpoints[].")) == set()


def missing(cls: type, tree: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(cls).items():
        if name not in tree:
            yield prefix + name
        for block in (hint, *get_args(hint)):
            if attrs.has(block) and isinstance(tree.get(name), dict):
                yield from missing(block, tree[name], f"{prefix}{name}.")


@pytest.mark.parametrize("text", [EXAMPLE, starter_text()])
def test_each_comment_is_a_remark_or_yaml(text: str) -> None:
    """Deleting the "#" of its YAML lines always gives a valid file."""
    loaded = parse_config(uncommented(text), "uncommented", {})
    assert loaded.problems == []
    assert len(loaded.config.endpoints) == 1
