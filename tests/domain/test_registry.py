from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import booleans, sampled_from

from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.registry import (
    STATUSES,
    Counts,
    EndpointConflict,
    EndpointNotFound,
    Registry,
    Status,
    SyncResult,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (EndpointConfig(f"http://{name}/", name) for name in "abc")
OFF = EndpointConfig("http://off/", "off", disabled=True)


def loaded(*configs: EndpointConfig, statuses: dict[str, Status] | None = None) -> Registry:
    registry = Registry(statuses)
    registry.load(configs, START)
    return registry


def later(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def shown(registry: Registry) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.source, entry.status) for entry in registry}


def ids(registry: Registry, **query: object) -> list[str]:
    return [entry.id for entry in registry.page(**query).entries]  # type: ignore[arg-type]


# ---- reading


def test_loading() -> None:
    """The file's endpoints are active, or disabled where it says so, and keep its order."""
    registry = loaded(B, OFF, A)
    assert shown(registry) == {"b": ("file", "active"), "off": ("file", "disabled"), "a": ("file", "active")}
    assert [entry.id for entry in registry] == ["b", "off", "a"]
    assert len(registry) == 3


def test_pages() -> None:
    """Filters come before slicing, counts before both, and registration time orders all."""
    registry = loaded(B, OFF, A)
    registry.register(C, later(-1))
    registry.set_status("b", "inactive")
    assert ids(registry) == ["c", "b", "off", "a"]
    assert ids(registry, limit=2, offset=1) == ["b", "off"]
    assert ids(registry, include_disabled=False) == ["c", "b", "a"]
    assert ids(registry, status="disabled", include_disabled=False) == []
    page = registry.page("active", limit=1)
    assert [entry.id for entry in page.entries] == ["c"]
    assert page.total_count == 2
    assert page.counts == Counts(total=4, active=2, inactive=1, disabled=1, unhealthy=0)


def test_unknown_endpoints() -> None:
    """What asks for an unknown id is told so by name."""
    registry = loaded(A)
    for ask in (registry.get, registry.remove, lambda id_: registry.set_status(id_, "active")):
        with pytest.raises(EndpointNotFound, match="Endpoint not found: none"):
            ask("none")
    assert not registry.mark("none", healthy=False)


# ---- registering


def test_registering() -> None:
    """The API adds an endpoint, and updates it when id and url are the same."""
    registry = loaded(A)
    entry = registry.register(B, later(1))
    assert shown(registry)["b"] == ("api", "active")
    assert registry.register(evolve(B, timeout=5.0), later(2)) is entry
    assert (entry.config.timeout, entry.registration_time) == (5.0, later(1))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (evolve(A, url="http://x/"), "Endpoint ID 'a' already exists with different URL"),
        (evolve(A, name="x"), "URL 'http://a/' already registered with different ID 'a'"),
        (evolve(A, url="http://b/"), "Endpoint ID 'a' already exists with different URL"),
    ],
)
def test_conflicts(config: EndpointConfig, sentence: str) -> None:
    """One id with two urls, or one url with two ids, is refused and changes nothing."""
    registry = loaded(A, B)
    before = shown(registry)
    with pytest.raises(EndpointConflict, match=sentence):
        registry.register(config, later(1))
    assert shown(registry) == before
    assert registry.get("a").config == A


def test_removing() -> None:
    """A removed endpoint is forgotten with all that was said of it."""
    registry = loaded(A)
    registry.set_status("a", "inactive")
    assert registry.remove("a").id == "a"
    assert registry.statuses() == {}
    registry.load([A], later(1))
    assert registry.get("a").status == "active"


# ---- the file


def test_reload() -> None:
    """A reload adds, updates and removes the file's endpoints only; those that stay keep their entries."""
    registry = loaded(A, B)
    registry.register(C, later(1))
    kept = registry.get("b")
    changed = evolve(B, timeout=1.0)
    assert registry.load([changed, OFF], later(2)) == SyncResult(("off",), ("b",), ("a",), ())
    assert shown(registry) == {"b": ("file", "active"), "c": ("api", "active"), "off": ("file", "disabled")}
    assert registry.get("b") is kept
    assert (kept.config, kept.registration_time) == (changed, START)


def test_unchanged_reload() -> None:
    """Reading the same file again changes nothing."""
    assert loaded(A, B).load([A, B], later(1)) == SyncResult((), (), (), ())


def test_the_file_wins() -> None:
    """On one id the file's endpoint replaces the API's, and undoes the API's update of its own."""
    registry = loaded(A)
    registry.register(C, later(1))
    registry.register(evolve(A, timeout=1.0), later(1))
    in_file = evolve(C, url="http://file/")
    assert registry.load([A, in_file], later(2)).updated == ("a", "c")
    assert registry.get("a").config == A
    assert (registry.get("c").config, registry.get("c").source) == (in_file, "file")


def test_sync_forgets_the_api() -> None:
    """A sync removes what came through the API and brings back what was removed through it."""
    registry = loaded(A, B)
    registry.register(C, later(1))
    registry.remove("b")
    assert registry.sync([A, B], later(2)) == SyncResult(("b",), (), ("c",), ())
    assert [entry.id for entry in registry] == ["a", "b"]


def test_duplicates_in_the_file() -> None:
    """The first of two endpoints with one id is used, and the second is named; one url may have two ids."""
    registry = Registry()
    result = registry.load([A, evolve(A, url="http://x/"), evolve(A, name="twin")], START)
    assert result.errors == ("Endpoint ID 'a' stands twice in the file; the first one is used",)
    assert [entry.config.url for entry in registry] == ["http://a/", "http://a/"]


# ---- status


@pytest.mark.parametrize("status", STATUSES)
def test_an_operators_word_survives(status: Status) -> None:
    """It outlives reloads, also of a changed file, and restarts."""
    registry = loaded(A, OFF)
    for id_ in ("a", "off"):
        assert registry.set_status(id_, status).status == status
    registry.load([evolve(A, timeout=1.0), OFF], later(1))
    restarted = loaded(A, OFF, statuses=registry.statuses())
    for each in (registry, restarted):
        assert {entry.status for entry in each} == {status}


def test_a_word_can_be_taken_back() -> None:
    """Setting what the config says anyway leaves the next word to the config."""
    registry = loaded(A)
    registry.set_status("a", "disabled")
    registry.set_status("a", "active")
    registry.load([evolve(A, disabled=True)], later(1))
    assert registry.get("a").status == "disabled"


@pytest.mark.parametrize(
    ("status", "healthy", "after"),
    [
        ("active", False, "unhealthy"),
        ("active", True, "active"),
        ("unhealthy", True, "active"),
        ("unhealthy", False, "unhealthy"),
        ("inactive", False, "inactive"),
        ("disabled", True, "disabled"),
    ],
)
def test_probes(status: Status, healthy: bool, after: Status) -> None:
    """A verdict moves between active and unhealthy, an operator's `unhealthy` included, and nowhere else."""
    registry = loaded(A)
    registry.set_status("a", status)
    assert registry.mark("a", healthy=healthy) is (status != after)
    assert registry.get("a").status == after
    registry.load([A], later(1))
    assert registry.get("a").status == after


def test_an_enabled_endpoint_can_fail() -> None:
    """An operator's `active` over the file's `disabled` stands, and probes judge it as any other."""
    registry = loaded(OFF)
    registry.set_status("off", "active")
    registry.mark("off", healthy=False)
    registry.load([OFF], later(1))
    assert registry.get("off").status == "unhealthy"
    registry.set_status("off", "unhealthy")
    registry.mark("off", healthy=True)
    registry.load([OFF], later(2))
    assert registry.get("off").status == "active"


def test_a_new_url_is_not_unhealthy_yet() -> None:
    """A verdict outlives a reload of the same url, not another url, and never hides `disabled`."""
    registry = loaded(A, B, C)
    for id_ in "abc":
        registry.mark(id_, healthy=False)
    registry.load([evolve(A, timeout=1.0), evolve(B, url="http://new/"), evolve(C, disabled=True)], later(1))
    assert [entry.status for entry in registry] == ["unhealthy", "active", "disabled"]


_names = sampled_from("abc")
_urls = sampled_from(["http://1/", "http://2/", "http://3/"])


class RegistryMachine(RuleBasedStateMachine):
    """Any sequence of changes, against what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.clock = 0
        self.file: list[EndpointConfig] = []

    def tick(self) -> datetime:
        self.clock += 1
        return later(self.clock)

    @rule(name=_names, url=_urls, disabled=booleans())
    def register(self, name: str, url: str, disabled: bool) -> None:
        before = shown(self.registry)
        try:
            self.registry.register(EndpointConfig(url, name, disabled=disabled), self.tick())
        except EndpointConflict:
            assert shown(self.registry) == before

    @rule(name=_names)
    def remove(self, name: str) -> None:
        known = name in shown(self.registry)
        try:
            self.registry.remove(name)
        except EndpointNotFound:
            assert not known

    @rule(name=_names, status=sampled_from(STATUSES))
    def set_status(self, name: str, status: Status) -> None:
        if name in shown(self.registry):
            self.registry.set_status(name, status)
            assert self.registry.get(name).status == status

    @rule(name=_names, healthy=booleans())
    def mark(self, name: str, healthy: bool) -> None:
        self.registry.mark(name, healthy=healthy)

    @rule(name=_names, url=_urls, whole=booleans())
    def read(self, name: str, url: str, whole: bool) -> None:
        config = EndpointConfig(url, name)
        api = {id_ for id_, (source, _) in shown(self.registry).items() if source == "api"}
        (self.registry.sync if whole else self.registry.load)([config], self.tick())
        assert set(shown(self.registry)) == {name} | (set() if whole else api)
        assert self.registry.get(name).config == config

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.registry.counts()
        by_status = counts.active + counts.inactive + counts.disabled + counts.unhealthy
        assert counts.total == by_status == len(self.registry)

    @invariant()
    def words_stand(self) -> None:
        for id_, said in self.registry.statuses().items():
            status = self.registry.get(id_).status
            assert status == said or (said, status) == ("active", "unhealthy")

    @invariant()
    def in_order(self) -> None:
        times = [entry.registration_time for entry in self.registry]
        assert times == sorted(times)


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_words_from_before_a_restart() -> None:
    """They hold for the endpoints that are here and for those to come."""
    registry = loaded(A, OFF)
    registry.recall({A.id: "disabled", OFF.id: "active", B.id: "inactive"})
    registry.register(B, later(1))
    assert {entry.id: entry.status for entry in registry} == {
        A.id: "disabled",
        OFF.id: "active",
        B.id: "inactive",
    }


def test_a_copy_is_another_registry() -> None:
    """A change is tried on it without a trace in the first."""
    registry = loaded(A, OFF)
    registry.set_status(A.id, "inactive")
    twin = registry.copy()
    assert shown(twin) == shown(registry)
    assert twin.statuses() == registry.statuses()
    twin.set_status(A.id, "active")
    twin.remove(OFF.id)
    twin.register(B, later(1))
    assert shown(registry) == {A.id: ("file", "inactive"), OFF.id: ("file", "disabled")}
    assert registry.statuses() == {A.id: "inactive"}


def test_a_conflict_can_be_foreseen() -> None:
    """`judge` refuses what `register` would refuse, and changes nothing."""
    registry = loaded(A)
    registry.judge(A)
    registry.judge(B)
    assert B.id not in registry
    assert A.id in registry
    with pytest.raises(EndpointConflict):
        registry.judge(evolve(A, name="other"))
    assert len(registry) == 1
