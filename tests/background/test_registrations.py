"""What the API changes: on disk before it is answered, and not at all when it can't be."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from attrs import define

from tests.support.disk import SURVIVORS, Disk, PowerCut, Survivors, at_once, cut_at, failing
from trio_gateway.background.registrations import EndpointUnusable, Registrations
from trio_gateway.background.state import StateStore
from trio_gateway.config.data import plain_endpoint
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import EndpointConfig, EndpointTls, MatchConfig
from trio_gateway.domain.registry import EndpointConflict, EndpointNotFound
from trio_gateway.errors import StorageFull
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.runtime import Runtime

FILE = "endpoints: [{url: 'http://f/', name: f}, {url: 'http://g/', name: g, match: {prefix: /g}}]"
START = datetime(2026, 1, 1, tzinfo=UTC)
A, B = EndpointConfig("http://a/", "a"), EndpointConfig("http://b/", "b", timeout=3.0)


@define
class Gateway:
    """What a start makes of a file and a disk."""

    runtime: Runtime
    registrations: Registrations
    store: StateStore

    @property
    def serving(self) -> list[str]:
        """What the plan serves, in its order."""
        return list(self.runtime.plan.endpoints)


def start(disk: Disk, file: str = FILE) -> Gateway:
    store = StateStore(Path("/state"), disk, at_once)
    saved = store.load()
    runtime = Runtime(MemoryNetwork())
    runtime.apply(parse_config(file, "test.yaml", {}).require())
    registrations = Registrations(runtime, store, at_once)
    registrations.restore(saved)
    return Gateway(runtime, registrations, store)


def restart(gateway: Gateway, file: str = FILE, survivors: Survivors = "synced") -> Gateway:
    assert isinstance(gateway.store.files, Disk)
    return start(gateway.store.files.after_the_cut(survivors), file)


async def test_a_registration_survives_reload_and_restart() -> None:
    """It serves at once, stays when the file is read again, and is back after a cut with its time."""
    here = start(Disk())
    entry = await here.registrations.register(B, START)
    await here.registrations.register(A, START + timedelta(seconds=1))
    assert (entry.source, here.serving) == ("api", ["f", "g", "b", "a"])
    here.runtime.apply(parse_config("endpoints: [{url: 'http://g/', name: g}]", "x", {}).require())
    assert here.serving == ["g", "b", "a"]
    again = restart(here)
    assert again.serving == ["f", "g", "b", "a"]
    assert again.runtime.registry.get("b").config == B
    assert again.runtime.registry.get("b").registration_time == START


async def test_an_operator_s_words_survive_a_restart() -> None:
    """For endpoints of the file and of the API."""
    here = start(Disk())
    await here.registrations.register(A)
    await here.registrations.set_status("a", "disabled")
    await here.registrations.set_status("f", "inactive")
    again = restart(here)
    assert {entry.id: entry.status for entry in again.runtime.registry} == {
        "f": "inactive",
        "g": "active",
        "a": "disabled",
    }


async def test_what_is_taken_back_stays_gone() -> None:
    """An unregistered endpoint is not restored; one of the file's is back with the file."""
    here = start(Disk())
    for config in (A, B):
        await here.registrations.register(config)
    assert (await here.registrations.unregister("a")).id == "a"
    await here.registrations.unregister("f")
    assert here.serving == ["g", "b"]
    assert restart(here).serving == ["f", "g", "b"]


async def test_sync_forgets_registrations() -> None:
    """The registry is what the file says, now and after a restart."""
    here = start(Disk())
    await here.registrations.register(A)
    assert (await here.registrations.sync()).removed == ("a",)
    assert here.serving == ["f", "g"]
    assert restart(here).serving == ["f", "g"]


Change = Callable[[Registrations], Awaitable[object]]
CHANGES: list[Change] = [
    lambda it: it.register(B),
    lambda it: it.register(EndpointConfig("http://a/", "a", timeout=9.0)),
    lambda it: it.unregister("a"),
    lambda it: it.set_status("a", "disabled"),
    lambda it: it.sync(),
]


def known(gateway: Gateway) -> dict[str, tuple[EndpointConfig, str, str]]:
    registry = gateway.runtime.registry
    return {entry.id: (entry.config, entry.source, entry.status) for entry in registry}


@pytest.mark.parametrize("survivors", SURVIVORS)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_was_answered_outlives_every_cut(change: Change, survivors: Survivors) -> None:
    """Power goes before each operation of it: before the answer it may be there or not, behind it is."""
    outcomes = []
    for number in count(1):
        here = start(Disk())
        await here.registrations.register(A)
        before, disk = known(here), here.store.files
        assert isinstance(disk, Disk)
        disk.before = cut_at(len(disk.operations) + number)
        try:
            await change(here.registrations)
        except PowerCut:
            assert known(here) == before
            outcomes.append(known(restart(here, survivors=survivors)) != before)
        else:
            assert known(restart(here, survivors=survivors)) == known(here) != before
            break
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > 10


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("change", CHANGES)
async def test_what_can_t_be_stored_does_not_happen(change: Change, code: int) -> None:
    """507, and the very same plan goes on serving."""
    here = start(Disk())
    await here.registrations.register(A)
    before, plan, disk = known(here), here.runtime.plan, here.store.files
    assert isinstance(disk, Disk)
    disk.before = failing(len(disk.operations) + 1, code, forever=True)
    with pytest.raises(StorageFull):
        await change(here.registrations)
    assert known(here) == before
    assert here.runtime.plan is plan
    disk.before = lambda *_: None
    assert known(restart(here)) == before


async def test_an_endpoint_can_be_stopped_without_a_folder() -> None:
    """A gateway that stores nothing refuses registrations, but takes an operator's word for this run."""
    here = start(Disk(before=failing(1, errno.EROFS, forever=True)))
    with pytest.raises(StorageFull):
        await here.registrations.register(A)
    await here.registrations.set_status("f", "disabled")
    assert here.runtime.registry.get("f").status == "disabled"


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (EndpointConfig("http://other/", "f"), EndpointConflict),
        (EndpointConfig("http://f/", "other"), EndpointConflict),
        (EndpointConfig("http://m/", "m", match=MatchConfig("/g")), EndpointConflict),
        (EndpointConfig("https://t/", "t", tls=EndpointTls(ca="/nowhere")), EndpointUnusable),
    ],
)
async def test_a_refused_registration_touches_nothing(config: EndpointConfig, error: type[Exception]) -> None:
    """Conflicts and unusable files are found before the disk is asked."""
    here = start(Disk())
    before, operations = known(here), len(here.store.files.operations)  # type: ignore[attr-defined]
    with pytest.raises(error):
        await here.registrations.register(config)
    assert known(here) == before
    assert len(here.store.files.operations) == operations  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [lambda it: it.unregister("x"), lambda it: it.set_status("x", "active")])
async def test_unknown_endpoints(change: Change) -> None:
    """There is nothing to change."""
    with pytest.raises(EndpointNotFound):
        await change(start(Disk()).registrations)


async def test_one_change_at_a_time() -> None:
    """Of two that contradict each other one is refused, and memory and disk agree on which."""
    here = start(Disk())
    refused = []

    async def register(name: str) -> None:
        try:
            await here.registrations.register(EndpointConfig("http://same/", name))
        except EndpointConflict:
            refused.append(name)

    async with trio.open_nursery() as nursery:
        for name in "xyz":
            nursery.start_soon(register, name)
    assert len(refused) == 2
    assert known(restart(here)) == known(here)


async def test_what_the_file_has_by_now_is_the_file_s() -> None:
    """A registration whose id, or url, the file has taken is not restored, and the log says why."""
    here = start(Disk())
    await here.registrations.register(A)
    await here.registrations.register(B)
    with structlog.testing.capture_logs() as lines:
        again = restart(here, "endpoints: [{url: 'http://new/', name: a}, {url: 'http://b/', name: c}]")
    assert again.serving == ["a", "c"]
    assert [line["event"] for line in lines] == ["a registration is not restored"] * 2


async def test_what_can_t_be_read_any_more_is_left_out() -> None:
    """One bad registration takes no other with it."""
    here = start(Disk())
    await here.registrations.register(A)
    await here.registrations.register(B)
    saved = here.store.load()
    saved.endpoints[0].config["timeout"] = "for ever"
    await here.store.save(saved)
    with structlog.testing.capture_logs() as lines:
        assert restart(here).serving == ["f", "g", "b"]
    assert lines[0]["reason"].startswith("timeout: must be a duration")


async def test_a_registration_costs_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the state file already is not made again for each one that joins it."""
    told: list[str] = []

    def plain(config: EndpointConfig) -> dict[str, Any]:
        told.append(config.id)
        return plain_endpoint(config)

    monkeypatch.setattr("trio_gateway.background.state.plain_endpoint", plain)
    here = start(Disk())
    for n in range(20):
        await here.registrations.register(EndpointConfig(f"http://n/{n}", f"n{n}"), START)
    await here.registrations.register(EndpointConfig("http://n/3", "n3", timeout=9.0), START)
    assert told == [f"n{n}" for n in range(20)] + ["n3"]
    again = restart(here)
    assert again.serving == ["f", "g", *(f"n{n}" for n in range(20))]
    assert again.runtime.registry.get("n3").config.timeout == 9.0
