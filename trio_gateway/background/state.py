"""What the API was told, over restarts: its registrations and an operator's words, in one file of the state
folder.

A state file that is not understood is treated like a folder that can't be written: nothing is stored (507),
so that nothing is written over what somebody may still want.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog
import trio
from attrs import define, field, frozen

from trio_gateway.background.files import replace_file
from trio_gateway.background.folder import StateFolder
from trio_gateway.config.data import plain_endpoint
from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.registry import STATUSES, Registry, Status
from trio_gateway.errors import StorageFull
from trio_gateway.proxy.aside import Aside

log = structlog.get_logger("trio_gateway.state")

_VERSION = 1


@frozen
class SavedEndpoint:
    """A registration: the endpoint as plain data, when it was made, and the config that the data tells."""

    config: dict[str, Any]
    registration_time: datetime
    told: EndpointConfig | None = field(default=None, eq=False, repr=False)


@frozen
class SavedState:
    """All that the API was told and that still stands."""

    endpoints: tuple[SavedEndpoint, ...] = ()
    statuses: Mapping[str, Status] = field(factory=dict)

    @classmethod
    def of(cls, registry: Registry, before: SavedState | None = None) -> SavedState:
        """What of a registry has to outlive the process. What stood in `before` is not told anew."""
        known = {id(each.told): each for each in before.endpoints} if before else {}
        return cls(
            tuple(
                known.get(id(entry.config))
                or SavedEndpoint(plain_endpoint(entry.config), entry.registration_time, entry.config)
                for entry in registry
                if entry.source == "api"
            ),
            registry.statuses(),
        )


@define(eq=False)
class StateStore(StateFolder):
    """The state folder with what the API was told in it."""

    aside: Aside = trio.to_thread.run_sync
    _saving: trio.Lock = field(init=False, factory=trio.Lock)

    def warn(self, event: str, **fields: object) -> None:
        """See StateFolder."""
        log.warning(event, **fields)

    def load(self) -> SavedState:
        """What was saved last; nothing where nothing was, or where it can't be read."""
        self._hold()
        data = self._read("registrations.json")
        if data is None:
            return SavedState()
        try:
            return _decode(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._give_up(f"registrations.json is not understood: {error}")
            return SavedState()

    async def save(self, state: SavedState) -> None:
        """Make `state` what the next start finds, durably. Raises StorageFull; then nothing changed.

        Once begun it is not cancelled: it is done, or it is not.
        """
        self._hold()
        if self.problem is not None:
            raise StorageFull(cause=self.problem)
        async with self._saving:
            await self.aside(self._save, state)

    def _save(self, state: SavedState) -> None:
        try:
            replace_file(self.files, self._file("registrations.json"), _encode(state))
        except OSError as error:
            raise StorageFull(cause=str(error)) from None


# ---- the file ---------------------------------------------------------------------------------------


def _encode(state: SavedState) -> bytes:
    document = {
        "version": _VERSION,
        "endpoints": [
            {"registered": saved.registration_time.isoformat(), "config": saved.config}
            for saved in state.endpoints
        ],
        "statuses": dict(state.statuses),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _decode(data: bytes) -> SavedState:
    """Raises ValueError and its kin for what no gateway of this version wrote."""
    document = msgspec.json.decode(data)
    if document["version"] != _VERSION:
        raise ValueError(f"its version is {document['version']}, not {_VERSION}")
    statuses = dict(document["statuses"])
    if not set(statuses.values()) <= set(STATUSES):
        raise ValueError("it has an unknown status")
    return SavedState(
        tuple(
            SavedEndpoint(dict(saved["config"]), datetime.fromisoformat(saved["registered"]))
            for saved in document["endpoints"]
        ),
        statuses,
    )
