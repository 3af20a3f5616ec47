"""Files that somebody writes: when a change is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from trio_gateway.background.changes import FileChanges


@define
class Files:
    """Two files, and a watch that has told of its first look."""

    one: Path
    two: Path
    changes: FileChanges

    async def told(self, seconds: float = 3.0) -> bool:
        """Whether a change is told soon."""
        with trio.move_on_after(seconds):
            await self.changes.next()
            return True
        return False


@pytest.fixture
async def files(tmp_path: Path) -> Files:
    """Both written."""
    one, two = tmp_path / "one", tmp_path / "two"
    for file in (one, two):
        file.write_text("before")
    files = Files(one, two, FileChanges(lambda: (str(one), str(two))))
    assert await files.told()
    return files


async def test_files_that_rest_tell_nothing(files: Files, autojump_clock: MockClock) -> None:
    """For as long as you like."""
    assert not await files.told(1000)


def edit(files: Files) -> None:
    files.two.write_text("behind it")


def replace(files: Files) -> None:
    new = files.one.with_name("new")
    new.write_text("before")
    new.rename(files.one)


def remove(files: Files) -> None:
    files.one.unlink()


def swap_link(files: Files) -> None:
    files.one.unlink()
    files.one.symlink_to(files.two)


@pytest.mark.parametrize("change", [edit, replace, remove, swap_link])
async def test_every_way_to_change_a_file_is_seen_once(
    change: Callable[[Files], None], files: Files, autojump_clock: MockClock
) -> None:
    """Of any of the files."""
    change(files)
    assert await files.told()
    assert not await files.told()


async def test_a_change_is_told_when_the_files_hold_still(files: Files, autojump_clock: MockClock) -> None:
    """A certificate comes before its key; both are read when both are there."""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for at in range(25):
                (files.one if at % 2 else files.two).write_text("x" * at)
                await trio.sleep(0.05)

        nursery.start_soon(write)
        assert await files.told()
        assert files.two.read_text() == "x" * 24
    assert not await files.told()


async def test_files_that_never_hold_still_are_told_all_the_same(
    files: Files, autojump_clock: MockClock
) -> None:
    """After ten looks: somebody writes a log into a certificate."""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for at in range(1000):
                os.utime(files.one, (at, at))
                await trio.sleep(0.05)

        nursery.start_soon(write)
        assert await files.told()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_wait_loses_no_change(files: Files, autojump_clock: MockClock) -> None:
    """Whoever waits next is told."""
    edit(files)
    with trio.move_on_after(0.5):
        await files.changes.next()
    assert await files.told()
