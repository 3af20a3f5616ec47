"""An operator's day: a running gateway and the command line beside it, as real processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx
from attrs import define

from tests.e2e.commands import GatewayProcess, backend, gateway, run

FILE = "gateway.yaml"


@define
class Day:
    """A gateway by `gateway.yaml` in a folder, and who operates it."""

    folder: Path
    process: GatewayProcess

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Call the command line with the gateway's config file and wait for it."""
        return run(*args, "-c", FILE, cwd=self.folder)

    def done(self, *args: str) -> str:
        """What a verb that succeeds prints."""
        done = self.command(*args)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.process.addresses[0]}"

    def fetch(self, path: str = "/orchestrator/users/x") -> int:
        """The status of a GET."""
        return httpx.get(self.url + path, trust_env=False).status_code

    def edit(self, old: str, new: str) -> None:
        """Change the config file."""
        file = self.folder / FILE
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))


@contextmanager
def day(folder: Path, url: str) -> Iterator[Day]:
    """A running gateway on a free port, with a state directory of its own."""
    (folder / FILE).write_text(
        "server: {bind: ['127.0.0.1:0']}\n"
        "state_dir: state\n"
        f"endpoints: [{{url: '{url}/', name: users, methods: [GET]}}]\n"
    )
    with gateway("run", "-c", FILE, cwd=folder) as process:
        yield Day(folder, process)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_day(tmp_path: Path) -> None:
    """See how it is, take an endpoint out and in, cut it off, change the file, go home."""
    with backend() as url, day(tmp_path, url) as our:
        assert our.done("status").startswith(f"gateway    ready at {our.url}\n")
        our.done("disable", "users")
        assert our.fetch() == 503
        our.done("enable", "users")
        assert our.fetch() == 200

        our.done("breaker", "trip", "users")
        assert our.fetch() == 503
        assert "open" in our.done("endpoints")
        our.done("breaker", "reset", "users")
        assert our.fetch() == 200

        our.edit("name: users", "name: people")
        our.done("reload")
        assert (our.fetch(), our.fetch("/orchestrator/people/x")) == (404, 200)
        our.edit("name: people", "name: 'the people'")
        broken = our.command("reload")
        assert (broken.returncode, broken.stdout) == (1, "nothing was changed\n")
        assert broken.stderr.startswith(f"{FILE}:3:")
        assert our.fetch("/orchestrator/people/x") == 200

        assert our.process.end(SIGTERM) == 0
        our.edit("name: 'the people'", "name: people")
        assert "no gateway is there" in one_line(our.command("status"))


def test_from_elsewhere(tmp_path: Path) -> None:
    """With an url and a token no config is needed; a token does no more than it may."""
    with backend() as url, day(tmp_path, url) as our:
        token = our.done("token").strip()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        told = run("routes", "--url", our.url, "--json", cwd=elsewhere, TRIO_GATEWAY_TOKEN=token)
        refused = run("disable", "users", "--url", our.url, cwd=elsewhere, TRIO_GATEWAY_TOKEN=token)
        assert [each["pattern"] for each in json.loads(told.stdout)["routes"]] == ["/users"]
        assert "needs the scope `operate`" in one_line(refused)
        assert our.fetch() == 200


def test_a_gateway_that_was_killed(tmp_path: Path) -> None:
    """It left a note of its address behind, and is told from a living one by its silence."""
    with backend() as url, day(tmp_path, url) as our:
        our.process.end(SIGKILL)
        assert f"no gateway answers at {our.url}: " in one_line(our.command("status"))


def test_what_the_operator_said_outlives_the_process(tmp_path: Path) -> None:
    """An endpoint that was disabled is so after a restart."""
    with backend() as url:
        with day(tmp_path, url) as our:
            our.done("disable", "users")
            our.process.end(SIGKILL)
        with day(tmp_path, url) as our:
            assert our.fetch() == 503
