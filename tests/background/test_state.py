"""What the API was told: what is there after whatever happened, and a gateway that cannot store it."""

from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import structlog
import trio

from tests.support.disk import SURVIVORS, Disk, PowerCut, Survivors, at_once, cut_at, failing
from trio_gateway.background.files import replace_file
from trio_gateway.background.state import SavedEndpoint, SavedState, StateStore
from trio_gateway.config.data import read_endpoint
from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.registry import Registry
from trio_gateway.errors import StorageFull

FOLDER = Path("/var/lib/gateway")
START = datetime(2026, 1, 1, tzinfo=UTC)


def store_on(disk: Disk) -> StateStore:
    return StateStore(FOLDER, disk, at_once)


def state(*names: str) -> SavedState:
    registry = Registry({"elsewhere": "disabled"})
    for number, name in enumerate(names):
        registry.register(EndpointConfig(f"http://{name}/", name), START + timedelta(seconds=number))
    return SavedState.of(registry)


def names(saved: SavedState) -> list[str]:
    return [endpoint.config["name"] for endpoint in saved.endpoints]


# ---- registrations ------------------------------------------------------------------------------------


async def test_what_was_saved_is_loaded() -> None:
    """Endpoints as data, when they were registered, and an operator's words."""
    disk = Disk()
    assert store_on(disk).load() == SavedState()
    store = store_on(disk.after_the_cut("synced"))
    await store.save(state("a", "b"))
    store.close()
    loaded = StateStore(FOLDER, store.files, at_once).load()
    assert loaded == state("a", "b")
    assert loaded.endpoints[1].registration_time == START + timedelta(seconds=1)
    assert read_endpoint(loaded.endpoints[0].config).config == EndpointConfig("http://a/", "a")
    assert loaded.statuses == {"elsewhere": "disabled"}


async def registrations_until_the_cut(disk: Disk) -> int:
    """How many registrations were answered before power went."""
    answered = 0
    try:
        store = store_on(disk)
        store.load()
        for answered in range(4):
            await store.save(state(*"abcd"[: answered + 1]))
        answered += 1
    except PowerCut:
        pass
    return answered


@pytest.mark.parametrize("survivors", SURVIVORS)
async def test_what_was_answered_is_there_after_a_cut(survivors: Survivors) -> None:
    """Power is cut before every single operation: each answered registration is found, the file is whole."""
    outcomes = set()
    for number in count(1):
        disk = Disk(before=cut_at(number))
        answered = await registrations_until_the_cut(disk)
        after = store_on(disk.after_the_cut(survivors))
        found = names(after.load())
        assert after.problem is None
        assert found in (list("abcd")[:answered], list("abcd")[: answered + 1])
        outcomes.add(answered)
        if answered == 4:
            break
    assert outcomes == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
async def test_what_can_t_be_stored_is_refused_and_nothing_changed(code: int) -> None:
    """Whatever operation fails: 507, and what was there before is what the next start finds."""
    for number in count(1):
        disk = Disk()
        store = store_on(disk)
        await store.save(state("a"))
        done = len(disk.operations)
        disk.before = failing(done + number, code)
        try:
            await store.save(state("a", "b"))
        except StorageFull as full:
            assert (full.status, full.source) == (507, "gateway")  # noqa: PT017  the loop needs the else
        else:
            break
        for survivors in SURVIVORS:
            assert names(store_on(disk.after_the_cut(survivors)).load()) == ["a"]
        await store.save(state("a", "c"))  # once there is space again
        assert names(store_on(disk.after_the_cut("synced")).load()) == ["a", "c"]
    assert number > 10


async def test_saves_come_one_after_the_other() -> None:
    """Two at once don't mix; the last one stands."""
    store = store_on(Disk())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.save, state("a"))
        nursery.start_soon(store.save, state("a", "b"))
    assert names(store.load()) in (["a"], ["a", "b"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
        b'{"version": 1, "endpoints": [{}], "statuses": {}}',
        b'{"version": 1, "endpoints": [], "statuses": {"a": "asleep"}}',
        b'{"version": 1, "endpoints": [{"registered": "soon", "config": {}}], "statuses": {}}',
    ],
)
async def test_a_file_of_somebody_else_is_left_alone(content: bytes) -> None:
    """What is not understood is neither used nor overwritten, and the log says so."""
    disk = Disk()
    store = store_on(disk)
    store.load()
    replace_file(disk, FOLDER / "registrations.json", content)
    with structlog.testing.capture_logs() as lines:
        assert store.load() == SavedState()
    assert "registrations.json is not understood" in lines[0]["reason"]
    with pytest.raises(StorageFull):
        await store.save(state("a"))


# ---- a folder that can't be had -------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
async def test_without_a_folder_the_gateway_serves_and_stores_nothing(code: int) -> None:
    """One warning, an ephemeral secret that stays the same, and 507 for what would have to be kept."""
    disk = Disk(before=failing(1, code, forever=True))
    with structlog.testing.capture_logs() as lines:
        store = store_on(disk)
        assert store.load() == SavedState()
        assert len(store.secret()) == 64
        assert store.secret() == store.secret()
        store.note_addresses(["127.0.0.1:8000"])
        with pytest.raises(StorageFull):
            await store.save(state("a"))
    assert [line["log_level"] for line in lines] == ["warning"]
    assert disk.root.names == {}


async def test_no_directory_at_all() -> None:
    """A gateway in memory keeps nothing and asks no disk."""
    store = StateStore(None)
    assert store.load() == SavedState()
    assert len(store.secret()) == 64
    assert store.noted_addresses() == ()
    with pytest.raises(StorageFull):
        await store.save(state("a"))
    store.close()


async def test_a_folder_belongs_to_one_gateway(tmp_path: Path) -> None:
    """A second one reads what is there, and stores nothing until the first is gone."""
    first = StateStore(tmp_path)
    await first.save(state("a"))
    first.note_addresses(["127.0.0.1:8000"])
    second = StateStore(tmp_path)
    assert names(second.load()) == ["a"]
    assert second.problem == "another process uses it"
    assert second.secret() != first.secret()  # it was not there yet
    third = StateStore(tmp_path)
    assert third.secret() == first.secret()
    second.note_addresses(["127.0.0.1:9000"])
    second.close()
    assert third.noted_addresses() == ("127.0.0.1:8000",)
    with pytest.raises(StorageFull):
        await third.save(state("b"))
    first.close()
    heir = StateStore(tmp_path)
    await heir.save(state("b"))
    assert heir.noted_addresses() == ()
    heir.close()


def test_only_the_api_s_endpoints_are_saved() -> None:
    """The file's come from the file."""
    registry = Registry()
    registry.load([EndpointConfig("http://f/", "f")], START)
    registry.register(EndpointConfig("http://a/", "a", timeout=3.0), START)
    registry.set_status("f", "disabled")
    assert SavedState.of(registry) == SavedState(
        (SavedEndpoint({"url": "http://a/", "name": "a", "timeout": 3.0}, START),), {"f": "disabled"}
    )
