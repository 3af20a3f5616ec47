"""What holds for every test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import structlog.dev

from tests.support.faults import COLLECTED

# A test dependency brings rich, and structlog's default format then prints every local of a traceback:
# minutes for one that begins in a gateway.
structlog.dev.rich_traceback.show_locals = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all tests for the fault matrix, whichever are going to run."""
    config.stash[COLLECTED] = list(items)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gateways that name no state directory keep nothing in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """The modules and the 6 500 items stay: no full collection needs to walk through them."""
    gc.collect()
    gc.freeze()
