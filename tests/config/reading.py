"""Short ways to load a config text in a test."""

from __future__ import annotations

from textwrap import dedent

from trio_gateway.config.load import Loaded, parse_config
from trio_gateway.config.model import EndpointConfig, GatewayConfig


def load(text: str, **environ: str) -> Loaded:
    """The text of a test, indented as the test is."""
    return parse_config(dedent(text).lstrip("\n"), "gateway.yaml", environ)


def good(text: str, **environ: str) -> GatewayConfig:
    """The config of a text without a problem."""
    return load(text, **environ).require()


def endpoint(text: str, **environ: str) -> EndpointConfig:
    """The only endpoint of a text without a problem."""
    (only,) = good(text, **environ).endpoints
    return only


def problems(text: str, **environ: str) -> list[str]:
    """The problems without the name of the file."""
    return [str(problem).removeprefix("gateway.yaml:") for problem in load(text, **environ).problems]


def warnings(text: str, **environ: str) -> list[str]:
    """The warnings without the name of the file."""
    return [str(problem).removeprefix("gateway.yaml:") for problem in load(text, **environ).warnings]
