"""What outlives the process: the API's registrations, an operator's words, and the gateway's own secret.

All of it stands in one folder, `state_dir`, which belongs to one process at a time. A gateway that cannot
have it, since it is read-only or another gateway's, serves all the same: it says so once, reads what is
there, and refuses only what it would have to keep (507). A state file that it does not understand is
treated the same way, so that nothing is written over what somebody may still want.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio
from attrs import define, field, frozen

from trio_gateway.background.files import FileLayer, RealFiles, make_folder, read_file, replace_file
from trio_gateway.config.data import plain_endpoint
from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.registry import STATUSES, Registry, Status
from trio_gateway.errors import StorageFull
from trio_gateway.proxy.aside import Aside

log = structlog.get_logger("trio_gateway.state")

_NAME = "trio_gateway"
_VERSION = 1
_SECRET_BYTES = 32
_SHORTEST_SECRET = 32  # characters


def state_directory(configured: str | None, environ: Mapping[str, str]) -> Path:
    """`state_dir`, else systemd's `$STATE_DIRECTORY`, else the folder of the XDG state directory."""
    if configured is not None:
        return Path(configured).expanduser()
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    home = environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path(environ.get("HOME") or "/") / ".local" / "state"
    return base / _NAME


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
class StateStore:
    """The state folder. Without a `directory` nothing is kept.

    It is taken hold of at the first use. `problem` says why nothing can be stored, None while all is well.
    """

    directory: Path | None
    files: FileLayer = field(factory=RealFiles)
    aside: Aside = trio.to_thread.run_sync
    problem: str | None = field(init=False, default=None)
    _lock: int | None = field(init=False, default=None)
    _held: bool = field(init=False, default=False)
    _secret: str | None = field(init=False, default=None)
    _saving: trio.Lock = field(init=False, factory=trio.Lock)

    # ---- holding the folder

    def _hold(self) -> None:
        if self._held:
            return
        self._held = True
        if self.directory is None:
            self.problem = "there is no state directory"
            return
        try:
            make_folder(self.files, self.directory)
            self._lock = self.files.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.files.lock(self._lock)
        except BlockingIOError:
            self._give_up("another process uses it")
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _give_up(self, reason: str) -> None:
        self.problem = reason
        log.warning(
            "nothing can be stored: registrations are refused, a new secret is for this run only",
            state_dir=str(self.directory),
            reason=reason,
        )

    def _path(self, name: str) -> str:
        return str(self._file(name))

    def _file(self, name: str) -> Path:
        assert self.directory is not None
        return self.directory / name

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is None:
            return
        if self.problem is None:
            with suppress(OSError):
                self.files.unlink(self._path("addresses"))
        self.files.close(self._lock)
        self._lock = None
        self.problem = "the store is closed"

    # ---- what the API was told

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

    def _read(self, name: str) -> bytes | None:
        if self.directory is None:
            return None
        try:
            return read_file(self.files, self._file(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            if self.problem is None:
                self._give_up(f"{name}: {error.strerror or error}")
            return None

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

    # ---- the secret

    def secret(self) -> str:
        """The secret that signs the gateway's own tokens: 64 hex digits, made once, mode 0600.

        Where it can't be kept it lasts as long as this object.
        """
        if self._secret is None:
            self._hold()
            self._secret = self.kept_secret() or self._new_secret()
        return self._secret

    def kept_secret(self) -> str | None:
        """The secret in the folder, if there is one. Takes no hold of the folder: for the command line."""
        kept = (self._read("secret") or b"").decode("ascii", "replace").strip()
        if kept and len(kept) < _SHORTEST_SECRET:
            log.warning("the kept secret is too short to be safe and is replaced", path=self._path("secret"))
        return kept if len(kept) >= _SHORTEST_SECRET else None

    def _new_secret(self) -> str:
        secret = secrets.token_hex(_SECRET_BYTES)
        if self.problem is None:
            try:
                replace_file(self.files, self._file("secret"), secret.encode() + b"\n")
            except OSError as error:
                self._give_up(error.strerror or str(error))
        return secret

    # ---- where the gateway listens

    def note_addresses(self, addresses: Iterable[str]) -> None:
        """Leave a note of where the management API listens, so that the command line finds it."""
        self._hold()
        if self.problem is None:
            with suppress(OSError):
                replace_file(self.files, self._file("addresses"), "\n".join(addresses).encode() + b"\n")

    def noted_addresses(self) -> tuple[str, ...]:
        """Where the gateway that holds the folder listens; empty when there is no note. Takes no hold."""
        return tuple((self._read("addresses") or b"").decode("utf-8", "replace").splitlines())


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
