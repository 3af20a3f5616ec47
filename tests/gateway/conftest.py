"""The two doors of the gateway: every behaviour test runs through both, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.stage import Door, in_virtual_time

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each door in turn; a module may name others in `DOORS`: those over TLS."""
    if "door" in metafunc.fixturenames:
        metafunc.parametrize("door", getattr(metafunc.module, "DOORS", ("lane", "h2")), indirect=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the gateway's certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Door:
    """`lane` or `h2`, with `-tls` behind it for the same over TLS."""
    name, _, tls = request.param.partition("-")
    return Door(name, request.getfixturevalue("authority") if tls else None)


@pytest.fixture
def lane() -> Door:
    """The HTTP/1.1 door alone, for what HTTP/2 has no words for."""
    return Door("lane")


@pytest.fixture
def h2() -> Door:
    """The HTTP/2 door alone, for what HTTP/1.1 has no words for."""
    return Door("h2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind a door time is virtual: no test of it waits a real second. The hook sees all folders' tests."""
    for item in items:
        if item.path.is_relative_to(HERE) and not {"door", "lane", "h2"}.isdisjoint(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker(pytest.mark.trio(run=in_virtual_time), append=False)
