"""The folder that outlives the process, as far as the command line needs it too: who holds it, the gateway's
own secret, and where it listens.

It belongs to one process at a time. A gateway that cannot have it, since it is read-only or another
gateway's, serves all the same, reads what is there, and refuses what it would have to keep.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from trio_gateway.background.files import FileLayer, RealFiles, make_folder, read_file, replace_file

_NAME = "trio_gateway"
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


@define(eq=False)
class StateFolder:
    """The state folder. Without a `directory` nothing is kept.

    It is taken hold of at the first use. `problem` says why nothing can be stored, None while all is well.
    """

    directory: Path | None
    files: FileLayer = field(factory=RealFiles)
    problem: str | None = field(init=False, default=None)
    _lock: int | None = field(init=False, default=None)
    _held: bool = field(init=False, default=False)
    _secret: str | None = field(init=False, default=None)

    def warn(self, event: str, **fields: object) -> None:
        """Say what a gateway's operator has to know; the command line has its own words."""

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
        self.warn(
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
            self.warn("the kept secret is too short to be safe and is replaced", path=self._path("secret"))
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
