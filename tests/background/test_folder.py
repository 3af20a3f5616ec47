"""The state folder: whose it is, the secret in it, and where the gateway that has it listens."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.disk import SURVIVORS, Disk, PowerCut, Survivors, cut_at
from trio_gateway.background.files import RealFiles, make_folder, replace_file
from trio_gateway.background.folder import StateFolder, state_directory
from trio_gateway.background.state import StateStore

FOLDER = Path("/var/lib/gateway")


def folder_on(disk: Disk) -> StateFolder:
    return StateFolder(FOLDER, disk)


def test_another_process_can_t_have_it(tmp_path: Path) -> None:
    """The lock is the system's: it holds between processes, and goes with the one that had it."""
    program = (
        "import sys, pathlib; from trio_gateway.background.folder import StateFolder\n"
        "store = StateFolder(pathlib.Path(sys.argv[1])); store.secret(); print(store.problem)"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]

    store = StateFolder(tmp_path)
    store.secret()
    assert other() == "another process uses it"
    store.close()
    assert other() == "None"
    again = StateFolder(tmp_path)
    again.secret()
    assert again.problem is None
    again.close()


# ---- the secret and the note ----------------------------------------------------------------------------


@pytest.mark.parametrize("survivors", SURVIVORS)
def test_a_secret_that_was_used_outlives_every_cut(survivors: Survivors) -> None:
    """Tokens that were made with it stay good."""
    for number in count(1):
        disk = Disk(before=cut_at(number))
        try:
            secret = folder_on(disk).secret()
        except PowerCut:
            assert len(folder_on(disk.after_the_cut(survivors)).secret()) == 64
        else:
            assert folder_on(disk.after_the_cut(survivors)).secret() == secret
            break
    assert number > 10


def test_the_secret_is_private(tmp_path: Path) -> None:
    """64 hex digits in a file of mode 0600, in a folder of mode 0700."""
    folder = tmp_path / "state"
    store = StateFolder(folder)
    assert bytes.fromhex(store.secret())
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert StateFolder(folder).kept_secret() == store.secret()
    store.close()


def test_a_secret_that_is_too_short_is_replaced() -> None:
    """Less than 32 bytes sign nothing."""
    disk = Disk()
    store = folder_on(disk)
    make_folder(disk, FOLDER)
    replace_file(disk, FOLDER / "secret", b"guess me\n")
    assert len(store.secret()) == 64
    assert folder_on(disk).kept_secret() == store.secret()


def test_addresses_are_noted_while_the_gateway_runs(tmp_path: Path) -> None:
    """Whoever asks finds them without taking the folder; the end takes the note away."""
    store = StateFolder(tmp_path)
    assert StateFolder(tmp_path).noted_addresses() == ()
    store.note_addresses(["127.0.0.1:8000", "[::1]:8000"])
    asking = StateFolder(tmp_path)
    assert asking.noted_addresses() == ("127.0.0.1:8000", "[::1]:8000")
    assert asking.problem is None
    store.close()
    assert asking.noted_addresses() == ()


# ---- where it is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/srv/state", {"STATE_DIRECTORY": "/x"}, "/srv/state"),
        (None, {"STATE_DIRECTORY": "/var/lib/gw:/var/lib/other", "HOME": "/people/u"}, "/var/lib/gw"),
        (None, {"XDG_STATE_HOME": "/xdg", "HOME": "/people/u"}, "/xdg/trio_gateway"),
        (None, {"XDG_STATE_HOME": "relative", "HOME": "/people/u"}, "/people/u/.local/state/trio_gateway"),
        (None, {"HOME": "/people/u"}, "/people/u/.local/state/trio_gateway"),
    ],
)
def test_the_folder(configured: str | None, environ: dict[str, str], expected: str) -> None:
    """The config, then systemd, then XDG, whose relative paths don't count."""
    assert state_directory(configured, environ) == Path(expected)


def test_the_real_layer_is_the_default(tmp_path: Path) -> None:
    """Without a word a folder is on the real disk."""
    assert isinstance(StateFolder(tmp_path).files, RealFiles)


def test_a_gateway_tells_what_the_command_line_does_not(tmp_path: Path) -> None:
    """Both find the folder taken; only the gateway's log has a line of it, without what stands in there."""
    holder = StateFolder(tmp_path)
    holder.secret()
    replace_file(RealFiles(), tmp_path / "secret", b"guess me\n")
    for kind, events in ((StateFolder, 0), (StateStore, 2)):
        with capture_logs() as lines:
            other = kind(tmp_path)
            other.secret()
        assert other.problem == "another process uses it"
        assert len(lines) == events
        assert "guess me" not in str(lines)
    holder.close()
