"""The file operations that the state directory is kept with, and the one way that a file is replaced.

A file is written under a temporary name, synced, renamed over the old one, and then its folder is synced:
whatever moment the machine stops at, the old content is there or the new one, whole, and the new one for
certain once `replace_file` has returned. `FileLayer` is the seam for tests that stop the machine.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_BLOCK = 1 << 16


class FileLayer(Protocol):
    """The operating system's calls, as in `os` and `fcntl`. Each raises OSError."""

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """A descriptor."""
        ...

    def read(self, fd: int, size: int) -> bytes:
        """At most `size` bytes."""
        ...

    def write(self, fd: int, data: bytes) -> int:
        """How many bytes were taken."""
        ...

    def fsync(self, fd: int) -> None:
        """Make a file's bytes, or a folder's names, durable."""
        ...

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Replace `target` in one step."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file."""
        ...

    def mkdir(self, path: str, mode: int) -> None:
        """Make one folder."""
        ...

    def lock(self, fd: int) -> None:
        """Lock a file for as long as it is open. Raises BlockingIOError while another process has it."""
        ...


class RealFiles:
    """The operating system itself."""

    open = staticmethod(os.open)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)
    close = staticmethod(os.close)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    mkdir = staticmethod(os.mkdir)

    @staticmethod
    def lock(fd: int) -> None:
        """See FileLayer."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_file(files: FileLayer, path: Path) -> bytes:
    """All bytes of a file. Raises OSError."""
    fd = files.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := files.read(fd, _BLOCK):
            pieces.append(piece)
    finally:
        files.close(fd)
    return b"".join(pieces)


def replace_file(files: FileLayer, path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, durably, mode 0600.

    Raises OSError; then the old content stands, as far as the disk still takes orders.
    """
    old = _content(files, path)
    try:
        _replace(files, path, data)
    except OSError:
        with suppress(OSError):
            files.unlink(str(_temporary(path)))
        with suppress(OSError):
            _restore(files, path, old)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _content(files: FileLayer, path: Path) -> bytes | None:
    try:
        return read_file(files, path)
    except FileNotFoundError:
        return None


def _replace(files: FileLayer, path: Path, data: bytes) -> None:
    temporary = str(_temporary(path))
    fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[files.write(fd, bytes(left)) :]
        files.fsync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, str(path))
    sync_folder(files, path.parent)


def _restore(files: FileLayer, path: Path, old: bytes | None) -> None:
    """Undo a rename that may not be durable: nobody was told of the new content."""
    if _content(files, path) == old:
        return
    if old is None:
        files.unlink(str(path))
        sync_folder(files, path.parent)
    else:
        _replace(files, path, old)


def sync_folder(files: FileLayer, folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = files.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.fsync(fd)
    finally:
        files.close(fd)


def make_folder(files: FileLayer, folder: Path) -> None:
    """Make a folder and what is missing above it, mode 0700, durably. Raises OSError."""
    try:
        files.mkdir(str(folder), 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(files, folder.parent)
        files.mkdir(str(folder), 0o700)
    sync_folder(files, folder.parent)
