"""The endpoints that the gateway knows: those of the config file and those registered through the API.

An `Entry` is made once for an id and changed in place while the id lives, so that whoever serves an
endpoint holds its entry and reads its status without a look-up. What an operator says of an endpoint
outlives reloads and, handed in as `statuses`, restarts; a health verdict lives until the url changes.
Reading the file again makes its endpoints what the file says; `sync` also forgets the API's.

Wall times are arguments: people read them, nothing is decided by them but the order of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, get_args

from attrs import define, frozen

from trio_gateway.config.model import EndpointConfig
from trio_gateway.errors import ClientError

Source = Literal["file", "api"]
Status = Literal["active", "inactive", "disabled", "unhealthy"]
STATUSES: tuple[Status, ...] = get_args(Status)


class EndpointConflict(ClientError):
    """A registration that contradicts another one: the same id, or the same url, but not both."""

    status = 400
    code = "endpoint_conflict"
    default_detail = "Endpoint already registered"


class EndpointNotFound(ClientError):
    """The registry has no such endpoint."""

    status = 404
    code = "endpoint_not_found"
    default_detail = "Endpoint not found"


@define(eq=False)
class Entry:
    """One endpoint: its config, who brought it, and whether it serves. `inactive` still does."""

    id: str
    config: EndpointConfig
    source: Source
    status: Status
    registration_time: datetime


@frozen
class Counts:
    """How many entries there are, in all and by status."""

    total: int
    active: int
    inactive: int
    disabled: int
    unhealthy: int


@frozen
class Page:
    """A slice of the entries that pass a filter; `total_count` is before slicing, `counts` before both."""

    entries: tuple[Entry, ...]
    total_count: int
    counts: Counts


@frozen
class SyncResult:
    """The ids that a reading of the file added, updated and removed, and a line for each it skipped."""

    added: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    errors: tuple[str, ...]


class Registry:
    """All entries by id. `statuses` are an operator's words from before a restart, by id."""

    def __init__(self, statuses: Mapping[str, Status] | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._said: dict[str, Status] = dict(statuses or {})

    # ---- what it knows

    def __iter__(self) -> Iterator[Entry]:
        """By registration time; entries of one reading in the file's order."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.registration_time))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._entries

    def get(self, id_: str) -> Entry:
        """The entry. Raises EndpointNotFound."""
        entry = self._entries.get(id_)
        if entry is None:
            raise EndpointNotFound(f"Endpoint not found: {id_}")
        return entry

    def counts(self) -> Counts:
        """All entries, counted."""
        found = [entry.status for entry in self._entries.values()]
        return Counts(len(found), **{status: found.count(status) for status in STATUSES})

    def page(
        self,
        status: Status | None = None,
        *,
        include_disabled: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> Page:
        """At most `limit` entries behind the first `offset` of those that pass, by registration time."""
        found = [
            entry
            for entry in self
            if (status is None or entry.status == status) and (include_disabled or entry.status != "disabled")
        ]
        return Page(tuple(found[offset : offset + limit]), len(found), self.counts())

    def statuses(self) -> dict[str, Status]:
        """An operator's words that still stand, to be kept over a restart."""
        return dict(self._said)

    def copy(self) -> Registry:
        """The same entries once more, to try a change on."""
        twin = Registry(self._said)
        twin._entries = {
            each.id: Entry(each.id, each.config, each.source, each.status, each.registration_time)
            for each in self._entries.values()
        }
        return twin

    # ---- what the API changes

    def register(self, config: EndpointConfig, now: datetime) -> Entry:
        """Add an endpoint, or update the one with the same id and url.

        An update of a file's endpoint stands until the file is read again. Raises EndpointConflict as
        `judge` does; then nothing changed.
        """
        self.judge(config)
        return self._put(config, "api", now)

    def judge(self, config: EndpointConfig) -> None:
        """Raise EndpointConflict when the id has another url, or the url another id."""
        old = self._entries.get(config.id)
        if old is not None and old.config.url != config.url:
            raise EndpointConflict(f"Endpoint ID '{config.id}' already exists with different URL")
        for other in () if old else self._entries.values():
            if other.config.url == config.url:
                raise EndpointConflict(
                    f"URL '{config.url}' already registered with different ID '{other.id}'"
                )

    def remove(self, id_: str) -> Entry:
        """Forget an endpoint and what was said of it. Raises EndpointNotFound."""
        entry = self.get(id_)
        del self._entries[id_]
        self._said.pop(id_, None)
        return entry

    def set_status(self, id_: str, status: Status) -> Entry:
        """An operator's word. Raises EndpointNotFound.

        It stands until it is taken back by naming what the config says anyway; `unhealthy` stands until
        the next probe.
        """
        entry = self.get(id_)
        entry.status = status
        if status == _configured(entry.config):
            self._said.pop(id_, None)
        else:
            self._said[id_] = status
        return entry

    def recall(self, statuses: Mapping[str, Status]) -> None:
        """An operator's words from before a restart, for the endpoints here and those to come."""
        self._said.update(statuses)
        for entry in self._entries.values():
            entry.status = self._status(entry.config)

    # ---- what probes and the file change

    def mark(self, id_: str, *, healthy: bool) -> bool:
        """A health verdict; whether it changed the status. An endpoint out of service keeps its own."""
        entry = self._entries.get(id_)
        status: Status = "active" if healthy else "unhealthy"
        if entry is None or entry.status not in ("active", "unhealthy") or entry.status == status:
            return False
        if self._said.get(id_) == "unhealthy":
            self.set_status(id_, status)
        entry.status = status
        return True

    def load(self, configs: Iterable[EndpointConfig], now: datetime) -> SyncResult:
        """Make the file's endpoints what `configs` say; the API's stay, but on one id the file wins."""
        return self._read(configs, now, forgotten=("file",))

    def sync(self, configs: Iterable[EndpointConfig], now: datetime) -> SyncResult:
        """As `load`, and forget the endpoints that came through the API."""
        return self._read(configs, now, forgotten=("file", "api"))

    def _read(
        self, configs: Iterable[EndpointConfig], now: datetime, *, forgotten: tuple[Source, ...]
    ) -> SyncResult:
        wanted: dict[str, EndpointConfig] = {}
        errors = []
        for config in configs:
            if config.id in wanted:
                errors.append(f"Endpoint ID '{config.id}' stands twice in the file; the first one is used")
            wanted.setdefault(config.id, config)
        removed = [e.id for e in self if e.source in forgotten and e.id not in wanted]
        added = [id_ for id_ in wanted if id_ not in self._entries]
        updated = [id_ for id_ in wanted if id_ in self._entries and self._differs(wanted[id_])]
        for id_ in removed:
            self.remove(id_)
        for config in wanted.values():
            self._put(config, "file", now)
        return SyncResult(tuple(added), tuple(updated), tuple(removed), tuple(errors))

    def _differs(self, config: EndpointConfig) -> bool:
        entry = self._entries[config.id]
        return entry.source != "file" or (entry.config is not config and entry.config != config)

    def _put(self, config: EndpointConfig, source: Source, now: datetime) -> Entry:
        entry = self._entries.get(config.id)
        if entry is None:
            entry = Entry(config.id, config, source, self._status(config), now)
            self._entries[config.id] = entry
            return entry
        if entry.config is config and entry.source == source:  # as most are when a file is read again
            return entry
        status = self._status(config)
        verdict_stands = entry.status == "unhealthy" and entry.config.url == config.url
        entry.status = "unhealthy" if verdict_stands and status == "active" else status
        entry.config, entry.source = config, source
        return entry

    def _status(self, config: EndpointConfig) -> Status:
        return self._said.get(config.id, _configured(config))


def _configured(config: EndpointConfig) -> Status:
    return "disabled" if config.disabled else "active"
