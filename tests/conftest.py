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

MEASURING = frozenset(
    Path(__file__).parent / "e2e" / f"test_{what}.py"
    for what in ("departures", "latency", "listeners", "process", "reload", "streams", "tls")
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all tests for the fault matrix, whichever are going to run; mark those that measure."""
    config.stash[COLLECTED] = list(items)
    for item in items:
        if item.path in MEASURING:
            item.add_marker("alone")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gateways that name no state directory keep nothing in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield
