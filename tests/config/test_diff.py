"""What changed between two configs."""

from __future__ import annotations

from tests.config.reading import good
from trio_gateway.config.diff import diff

OLD = """
timeouts: {connect: 5s}
log_level: info
endpoints:
  - {url: http://a, name: a}
  - {url: http://b, name: b, timeouts: {connect: 1s}}
  - {url: http://c}
"""


def test_the_same_config_has_no_difference() -> None:
    """Another spelling of the same values touches nothing."""
    assert not diff(good(OLD), good(OLD.replace("5s", "5000ms").replace("http://c", "HTTP://C:80/")))


def test_each_endpoint_is_judged_by_its_id() -> None:
    """Order does not matter; another url without a name is another endpoint."""
    new = """
    timeouts: {connect: 5s}
    log_level: debug
    endpoints:
      - {url: http://d}
      - {url: http://b/2, name: b, timeouts: {connect: 1s}}
      - {url: http://a, name: a}
    """
    change = diff(good(OLD), good(new))
    assert [endpoint.url for endpoint in change.added] == ["http://d/"]
    assert [(old.url, new.url) for old, new in change.changed] == [("http://b/", "http://b/2")]
    assert [endpoint.url for endpoint in change.removed] == ["http://c/"]
    assert change.sections == ("log_level",)
    assert change


def test_a_changed_default_changes_those_who_inherit_it() -> None:
    """Endpoints that say otherwise are left alone."""
    change = diff(good(OLD), good(OLD.replace("5s", "6s")))
    assert [new.id for _, new in change.changed] == ["a", good(OLD).endpoints[2].id]
