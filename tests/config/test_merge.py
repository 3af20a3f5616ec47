"""Defaults of the file under what an endpoint says."""

from __future__ import annotations

import pytest

from tests.config.reading import endpoint, load, problems
from trio_gateway.config.model import EndpointTimeouts, HeaderChanges, PoolConfig

FILE = """
timeouts: {connect: 1s, idle: 2s}
headers: {request: {set: {X-A: a, X-B: b}, remove: [X-C]}}
allow: [10.0.0.0/8]
timeout: 7
max_body_bytes: 1KiB
endpoints:
  - {url: http://h, name: n%s}
"""


def test_an_endpoint_inherits_every_block() -> None:
    """What an endpoint does not say comes from the top of the file."""
    read = endpoint(FILE % "")
    assert read.timeouts == EndpointTimeouts(connect=1.0, idle=2.0)
    assert read.headers.request == HeaderChanges(set={"X-A": "a", "X-B": "b"}, remove=("X-C",))
    assert [str(net) for net in read.allow] == ["10.0.0.0/8"]
    assert (read.timeout, read.max_body_bytes) == (7.0, 1024)


def test_mappings_merge_and_lists_replace() -> None:
    """An endpoint overrides key by key, at any depth; a list is one value."""
    read = endpoint(
        FILE % ", timeouts: {idle: 9}, headers: {request: {set: {X-B: z, X-D: d}, remove: []}}, allow: []"
    )
    assert read.timeouts == EndpointTimeouts(connect=1.0, idle=9.0)
    assert read.headers.request == HeaderChanges(set={"X-A": "a", "X-B": "z", "X-D": "d"})
    assert read.allow == ()


@pytest.mark.parametrize("spelling", ["null", "~", ""])
def test_null_is_the_built_in_default(spelling: str) -> None:
    """A null in an endpoint takes back what the file's default says."""
    read = endpoint(
        FILE % f", timeouts: {{connect: {spelling}}}, timeout: {spelling}, headers: {{request: {spelling}}}"
    )
    assert read.timeouts == EndpointTimeouts(idle=2.0)
    assert read.timeout == 30.0
    assert read.headers.request == HeaderChanges()


def test_null_takes_back_one_inherited_header() -> None:
    """A name without a value is not there."""
    read = endpoint(FILE % ", headers: {request: {set: {X-A: null}}}")
    assert read.headers.request.set == {"X-B": "b"}


def test_a_mistake_in_a_default_is_told_once() -> None:
    """A thousand endpoints that inherit a mistake do not repeat it; it has the place where it is written."""
    text = "timeouts: {connect: soon}\nendpoints:\n" + "".join(
        f"  - {{url: http://h{n}, name: n{n}, timeouts: {{idle: 5}}}}\n" for n in range(3)
    )
    (problem,) = problems(text)
    assert problem.startswith("1:21: timeouts.connect: must be a duration")


def test_defaults_that_nobody_overrides_are_one_object() -> None:
    """Endpoints share what they inherit, so a large file stays small in memory."""
    text = "pool: {max_idle: 1}\nendpoints: [{url: http://a, name: a}, {url: http://b, name: b}]"
    one, two = load(text).config.endpoints
    assert one.pool == PoolConfig(max_idle=1)
    assert one.pool is two.pool
