"""Files that somebody may write: when one of them has changed and holds still.

What `stat` says of each path is polled, links followed, so an edit in place, a rename over it and the swap
of a link on the way all show. A file that is just being written may be valid and lack its second half, and a
certificate may be there before its key: so the files are left alone until they hold still.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import trio
from attrs import define, field

_INTERVAL = 1.0  # seconds between two looks
_STILL = 0.1  # seconds without a change
_PATIENCE = 10  # looks at files that never hold still

_Signature = tuple[int, ...] | None  # None for a file that is not there


@define(eq=False)
class FileChanges:
    """Changes of the files that `paths` names at each look. The first look finds one."""

    paths: Callable[[], Iterable[str]]
    _seen: tuple[_Signature, ...] | None = field(init=False, default=None)

    async def next(self) -> None:
        """Wait for the next change. Cancelled, none is lost."""
        while True:
            await trio.sleep(_INTERVAL)
            found = self._look()
            if found != self._seen:
                self._seen = await self._still(found)
                return

    def _look(self) -> tuple[_Signature, ...]:
        return tuple(_signature(path) for path in self.paths())

    async def _still(self, found: tuple[_Signature, ...]) -> tuple[_Signature, ...]:
        for _ in range(_PATIENCE):
            await trio.sleep(_STILL)
            before, found = found, self._look()
            if found == before:
                break
        return found


def _signature(path: str) -> _Signature:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
