"""From a finding back to the file."""

from __future__ import annotations

import pytest

from tests.config.reading import load
from trio_gateway.config.positions import Positions
from trio_gateway.config.problems import Path

FILE = """
timeouts: {connect: 5s}
endpoints:
  - {url: http://a, name: a}
  - {url: ftp://b}
  - url: http://c
    name: c
    tls: null
    cors: {origins: ["*"]}
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("endpoints", 1, "name"), "6:11: endpoints[2].name"),
        (("endpoints", 1, "cors", "origins", 0), "8:22: endpoints[2].cors.origins[0]"),
        (("endpoints", 1, "cors", "origins", 9), "8:21: endpoints[2].cors.origins[9]"),
        (("endpoints", 1, "timeouts", "connect"), "1:21: endpoints[2].timeouts.connect"),
        (("endpoints", 1, "pool", "max_idle"), "5:5: endpoints[2].pool.max_idle"),
        (("endpoints", 7), "3:3: endpoints[7]"),
        (("server", "bind"), "1:1: server.bind"),
    ],
)
def test_a_path_leads_to_its_line(path: Path, place: str) -> None:
    """The config's second endpoint may be the file's third; what is not there has the place of its block."""
    assert str(load(FILE).positions.problem(path, "!")) == f"gateway.yaml:{place}: !"


def test_only_what_an_endpoint_says_itself_is_given() -> None:
    """Inherited blocks and nulls are not the endpoint's own words."""
    positions = load(FILE).positions
    assert positions.given(1, "cors")
    assert not positions.given(1, "timeouts")
    assert not positions.given(1, "tls")
    assert not positions.given(5, "cors")


def test_a_config_without_a_file_has_no_lines() -> None:
    """Rules work for configs that were built in code."""
    assert str(Positions().problem(("server", "prefix"), "!")) == "config:1:1: server.prefix: !"
    assert Positions().text(("server", "prefix")) is None
