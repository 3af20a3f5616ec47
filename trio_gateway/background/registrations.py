"""What the management API changes in the registry: tried, stored, then in force.

A change is first made on a copy of the registry, which finds every conflict; what comes out of that is
written to the state directory; only then the runtime makes the same change. So whoever got an answer
finds the change after a crash, and a change that could not be stored has not happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from attrs import define, field

from trio_gateway.background.state import SavedState, StateStore
from trio_gateway.config.data import read_endpoint
from trio_gateway.config.model import EndpointConfig
from trio_gateway.config.problems import dotted
from trio_gateway.domain.registry import EndpointConflict, Entry, Registry, Status, SyncResult
from trio_gateway.errors import ClientError, ConfigError
from trio_gateway.proxy.aside import Aside, beside_the_loop
from trio_gateway.proxy.runtime import Runtime

log = structlog.get_logger("trio_gateway.state")

T = TypeVar("T")


class EndpointUnusable(ClientError):
    """The endpoint is well-formed, but names files that can't be used."""

    status = 400
    code = "endpoint_unusable"
    default_detail = "The endpoint cannot be used"


@define(eq=False)
class Registrations:
    """One change at a time; each raises StorageFull when it can't be stored."""

    runtime: Runtime
    store: StateStore
    aside: Aside = beside_the_loop
    _saved: SavedState | None = field(init=False, default=None)

    def restore(self, saved: SavedState) -> None:
        """Take up what was saved, at the start: behind the file's endpoints, which win on an id.

        What can't be used any more is named in the log and forgotten at the next change.
        """
        self.runtime.registry.recall(saved.statuses)
        contexts = []
        for endpoint in saved.endpoints:
            try:
                config = self._readable(endpoint.config)
                contexts.append(self.runtime.live.load_tls([config]))
                self.runtime.registry.register(config, endpoint.registration_time)
            except (EndpointConflict, EndpointUnusable, ConfigError) as error:
                log.warning(
                    "a registration is not restored", url=endpoint.config.get("url"), reason=str(error)
                )
        self.runtime.rebuild()

    def _readable(self, data: Mapping[str, Any]) -> EndpointConfig:
        read = read_endpoint(data)
        if read.config is None:
            mistakes = (f"{dotted(mistake.loc)}: {mistake.msg}" for mistake in read.mistakes)
            raise EndpointUnusable("; ".join(mistakes))
        if read.config.id in self.runtime.registry:
            raise EndpointConflict("the config file has the same id")
        return read.config

    async def register(self, config: EndpointConfig, now: datetime | None = None) -> Entry:
        """Add an endpoint, or update the one with the same id and url.

        Raises EndpointConflict, or EndpointUnusable for TLS files that can't be read.
        """
        moment = now or datetime.now(UTC)
        async with self.runtime.changing:
            self.runtime.judge(config)
            try:
                contexts = await self.aside(self.runtime.live.load_tls, [config])
            except ConfigError as error:
                raise EndpointUnusable(str(error)) from None
            await self._store(lambda registry: registry.register(config, moment))
            entry = self.runtime.register(config, moment)
            del contexts  # held so far: the pool has what it needs
            return entry

    async def unregister(self, id_: str) -> Entry:
        """Take an endpoint away; it finishes what it carries. Raises EndpointNotFound.

        One of the file's is back when the file is read again.
        """
        async with self.runtime.changing:
            await self._store(lambda registry: registry.remove(id_))
            return self.runtime.unregister(id_)

    async def set_status(self, id_: str, status: Status) -> Entry:
        """An operator's word, kept over reloads and restarts. Raises EndpointNotFound.

        A gateway that stores nothing at all takes it too, for this run: an endpoint that does harm has to
        be stopped wherever it is.
        """
        async with self.runtime.changing:
            self.runtime.registry.get(id_)
            if self.store.problem is None:
                await self._store(lambda registry: registry.set_status(id_, status))
            return self.runtime.set_status(id_, status)

    async def sync(self) -> SyncResult:
        """Back to what the file says: registrations go."""
        async with self.runtime.changing:
            configs = self.runtime.config.endpoints
            await self._store(lambda registry: registry.sync(configs, datetime.now(UTC)))
            return self.runtime.sync()

    async def _store(self, edit: Callable[[Registry], object]) -> None:
        trial = self.runtime.registry.copy()
        edit(trial)
        saved = SavedState.of(trial, self._saved)
        await self.store.save(saved)
        self._saved = saved
