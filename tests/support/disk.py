"""A disk in memory whose power can be cut: what was not synced may be gone, whole, or half there.

It knows what a file system promises and nothing more. Bytes are safe after `fsync` of their file, names
after `fsync` of their folder; until then each may or may not have reached the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

import trio
from attrs import define, field

T = TypeVar("T")
Survivors = Literal["synced", "names", "half", "all"]
SURVIVORS: tuple[Survivors, ...] = ("synced", "names", "half", "all")
"""What a cut leaves of what was not synced: nothing, names without bytes, names and half the bytes, all."""

_SHORT = 7  # bytes that one write takes at most


class PowerCut(BaseException):
    """The machine stopped; nothing it does afterwards reaches the disk."""


@define(eq=False)
class File:
    """Bytes as programs see them, and as they stand on the platter."""

    data: bytes = b""
    synced: bytes = b""
    locked_by: int | None = None


@define(eq=False)
class Folder:
    """Names as programs see them, and as they stand on the platter."""

    names: dict[str, File | Folder] = field(factory=dict)
    synced: dict[str, File | Folder] = field(factory=dict)


@define(eq=False)
class Disk:
    """A FileLayer. `before` is told each operation's number (from 1) and name; it may raise."""

    root: Folder = field(factory=Folder)
    before: Callable[[int, str], None] = lambda _number, _name: None
    operations: list[str] = field(factory=list)
    _open: dict[int, tuple[File | Folder, int]] = field(factory=dict)
    _next: int = 3
    _dead: bool = False

    def _step(self, name: str) -> None:
        if self._dead:
            raise PowerCut
        self.operations.append(name)
        try:
            self.before(len(self.operations), name)
        except PowerCut:
            self._dead = True
            raise

    def _find(self, path: str) -> tuple[Folder, str]:
        parts = PurePosixPath(path).parts[1:]
        folder = self.root
        for part in parts[:-1]:
            below = folder.names.get(part)
            if below is None:
                raise _error(errno.ENOENT, path)
            assert isinstance(below, Folder)
            folder = below
        return folder, parts[-1] if parts else ""

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """See FileLayer."""
        self._step("open")
        folder, name = self._find(path)
        node = folder.names.get(name) if name else folder
        if node is None and flags & os.O_CREAT:
            node = folder.names[name] = File()
        if node is None:
            raise _error(errno.ENOENT, path)
        if isinstance(node, File) and flags & os.O_TRUNC:
            node.data = b""
        self._next += 1
        self._open[self._next] = (node, 0)
        return self._next

    def read(self, fd: int, size: int) -> bytes:
        """See FileLayer."""
        self._step("read")
        node, place = self._open[fd]
        assert isinstance(node, File)
        piece = node.data[place : place + min(size, _SHORT)]
        self._open[fd] = (node, place + len(piece))
        return piece

    def write(self, fd: int, data: bytes) -> int:
        """See FileLayer; takes a few bytes at a time."""
        self._step("write")
        node, _ = self._open[fd]
        assert isinstance(node, File)
        node.data += data[:_SHORT]
        return len(data[:_SHORT])

    def fsync(self, fd: int) -> None:
        """See FileLayer."""
        self._step("fsync")
        node, _ = self._open[fd]
        if isinstance(node, File):
            node.synced = node.data
        else:
            node.synced = dict(node.names)

    def close(self, fd: int) -> None:
        """See FileLayer. The descriptor is gone also when this fails, and with the process."""
        node, _ = self._open.pop(fd)
        if isinstance(node, File) and node.locked_by == fd:
            node.locked_by = None
        if not self._dead:
            self._step("close")

    def rename(self, source: str, target: str) -> None:
        """See FileLayer."""
        self._step("rename")
        old, old_name = self._find(source)
        new, new_name = self._find(target)
        new.names[new_name] = old.names.pop(old_name)

    def unlink(self, path: str) -> None:
        """See FileLayer."""
        self._step("unlink")
        folder, name = self._find(path)
        if folder.names.pop(name, None) is None:
            raise _error(errno.ENOENT, path)

    def mkdir(self, path: str, mode: int) -> None:
        """See FileLayer."""
        self._step("mkdir")
        assert mode == 0o700
        folder, name = self._find(path)
        if not name or name in folder.names:
            raise _error(errno.EEXIST, path)
        folder.names[name] = Folder()

    def lock(self, fd: int) -> None:
        """See FileLayer."""
        self._step("lock")
        file, _ = self._open[fd]
        assert isinstance(file, File)
        if file.locked_by is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        file.locked_by = fd

    def after_the_cut(self, survivors: Survivors) -> Disk:
        """The disk that the machine finds when it is back."""
        root = _survived(self.root, survivors)
        assert isinstance(root, Folder)
        return Disk(root)

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)


def _survived(node: File | Folder, survivors: Survivors) -> File | Folder:
    if isinstance(node, File):
        data = _bytes(node, survivors)
        return File(data, data)
    kept = node.synced if survivors == "synced" else node.names
    names = {name: _survived(below, survivors) for name, below in kept.items()}
    return Folder(names, dict(names))


def _bytes(file: File, survivors: Survivors) -> bytes:
    if survivors == "all":
        return file.data
    if survivors == "half" and file.data != file.synced:
        return file.data[: len(file.data) // 2]
    return file.synced


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def cut_at(number: int) -> Callable[[int, str], None]:
    """Power goes before operation `number`."""

    def before(reached: int, _name: str) -> None:
        if reached == number:
            raise PowerCut

    return before


def failing(number: int, code: int, *, forever: bool = False) -> Callable[[int, str], None]:
    """Operation `number` fails with an errno; with `forever` all that write do from then on."""

    def before(reached: int, name: str) -> None:
        if reached == number or (forever and reached > number and name not in ("read", "close")):
            raise OSError(code, os.strerror(code))

    return before


async def at_once(work: Callable[..., T], /, *arguments: Any) -> T:
    """An `Aside` that needs no thread: virtual time can't see threads."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)
