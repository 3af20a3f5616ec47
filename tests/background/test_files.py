"""Files that are replaced whole or not at all, on a disk that loses what was not synced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.support.disk import SURVIVORS, Disk, PowerCut, Survivors, cut_at, failing
from trio_gateway.background.files import RealFiles, make_folder, read_file, replace_file

FOLDER = Path("/var/state")
FILE = FOLDER / "file"
OLD, NEW = b"the old content, of some length", b"the new content, of another length"


def disk_with(content: bytes | None) -> Disk:
    disk = Disk()
    make_folder(disk, FOLDER)
    if content is not None:
        replace_file(disk, FILE, content)
    disk.operations.clear()
    return disk


def content(disk: Disk) -> bytes | None:
    try:
        return read_file(disk, FILE)
    except FileNotFoundError:
        return None


def interrupted(old: bytes | None, before: Callable[[int, str], None]) -> tuple[Disk, BaseException | None]:
    """A replacement with something in its way, and what it raised."""
    disk = disk_with(old)
    disk.before = before
    try:
        replace_file(disk, FILE, NEW)
    except (OSError, PowerCut) as error:
        return disk, error
    return disk, None


@pytest.mark.parametrize("survivors", SURVIVORS)
@pytest.mark.parametrize("old", [None, OLD])
def test_a_cut_at_any_moment_leaves_the_old_or_the_new(old: bytes | None, survivors: Survivors) -> None:
    """Never a piece of either, whatever of the unsynced reached the disk."""
    found = []
    for number in count(1):
        disk, error = interrupted(old, cut_at(number))
        found.append(content(disk.after_the_cut(survivors)))
        if error is None:
            break
    assert set(found) == {old, NEW}
    assert found == sorted(found, key=[old, NEW].index)  # once new, it stays


@pytest.mark.parametrize("survivors", SURVIVORS)
def test_what_has_returned_is_there(survivors: Survivors) -> None:
    """From the moment that the call is over no cut takes the new content away; the folder stays too."""
    disk = disk_with(None)
    replace_file(disk, FILE, NEW)
    assert content(disk.after_the_cut(survivors)) == NEW


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("old", [None, OLD])
def test_a_failure_at_any_step_leaves_the_old(old: bytes | None, code: int, forever: bool) -> None:
    """The error is raised, nothing stays open, and the new content is not there, now or after a cut."""
    for number in count(1):
        disk, error = interrupted(old, failing(number, code, forever=forever))
        if error is None:
            break
        assert isinstance(error, OSError)
        assert error.errno == code
        assert disk.descriptors == 0
        disk.before = lambda *_: None
        renamed = "rename" in disk.operations[: number - 1]
        if not (forever and renamed):  # a disk that takes no orders can't be told to undo one
            assert content(disk) == old
            assert {content(disk.after_the_cut(survivors)) for survivors in SURVIVORS} == {old}
    assert number > 10


def test_a_folder_is_made_with_all_above_it() -> None:
    """Each level is durable before anything is written into the next."""
    disk = Disk()
    make_folder(disk, Path("/a/b/c"))
    make_folder(disk, Path("/a/b/c"))
    assert list(disk.after_the_cut("synced").root.names) == ["a"]
    replace_file(disk, Path("/a/b/c/file"), NEW)
    assert read_file(disk.after_the_cut("synced"), Path("/a/b/c/file")) == NEW


def test_the_real_disk(tmp_path: Path) -> None:
    """The system's own calls do the same: private files, no leftovers, a lock that holds."""
    files, folder = RealFiles(), tmp_path / "a" / "b"
    make_folder(files, folder)
    replace_file(files, folder / "file", OLD)
    replace_file(files, folder / "file", NEW * 10_000)
    assert read_file(files, folder / "file") == NEW * 10_000
    assert os.listdir(folder) == ["file"]
    assert (folder / "file").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    first, second = (files.open(str(folder / "file"), os.O_RDWR) for _ in range(2))
    files.lock(first)
    with pytest.raises(BlockingIOError):
        files.lock(second)
    files.close(first)
    files.lock(second)
    files.close(second)


def test_a_link_in_the_temporary_name_s_place_is_not_followed(tmp_path: Path) -> None:
    """Nobody who can write into the folder has another file overwritten."""
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    (tmp_path / "file.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        replace_file(RealFiles(), tmp_path / "file", NEW)
    assert victim.read_bytes() == OLD
