"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.dev

from tests.support.faults import COLLECTED

# A test dependency brings rich, and structlog's default format then prints every local of a traceback:
# minutes for one that begins in a gateway.
structlog.dev.rich_traceback.show_locals = False

E2E = Path(__file__).parent / "e2e"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all tests for the fault matrix, whichever of them are going to run; mark those in e2e."""
    config.stash[COLLECTED] = list(items)
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker("e2e")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gateways that name no state directory keep nothing in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield
