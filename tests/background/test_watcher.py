"""The config file while the gateway runs: when it is read again, and what that changes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from attrs import define, evolve

from tests.support.authority import Authority
from tests.support.client import RawClient, request
from tests.support.disk import at_once
from tests.support.faults import fault, through
from tests.support.gateway import World, world
from tests.support.upstream import Script, Upstream, Wire, answering
from trio_gateway.background.watcher import Reloader, Watcher, reload_on_hangup
from trio_gateway.config.data import read_endpoint
from trio_gateway.config.load import digest_of
from trio_gateway.config.model import BindConfig, EndpointConfig, GatewayConfig
from trio_gateway.proxy.runtime import Runtime

pytestmark = through("gateway")

USERS = "/orchestrator/users"
TOP = """\
server: {bind: ["127.0.0.1:8000"]}
health_check: {enabled: false}
endpoints:
"""
FILE = TOP + '  - {url: "http://backend.example/", name: users, methods: [GET, POST]}\n'
OTHER = '  - {url: "http://backend.example/other", name: other}\n'
BROKEN = FILE + "  - {url: http://x/, name: x, timeout: soon}\n"
IN_TIME = 2.0


@define
class Place:
    """A running gateway whose config file is watched."""

    here: World
    path: Path
    reloader: Reloader

    @property
    def runtime(self) -> Runtime:
        """The gateway's."""
        return self.here.gateway.runtime

    @property
    def endpoints(self) -> list[str]:
        """What the plan serves."""
        return list(self.runtime.plan.endpoints)


@asynccontextmanager
async def watched(
    path: Path, script: Script = answering, text: str = FILE, **how: Any
) -> AsyncIterator[Place]:
    written(path, text)
    async with world(text, script) as here:
        reloader = Reloader(str(path), here.gateway.runtime, aside=at_once, **how)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watcher(reloader).run)
            await trio.sleep(0.5)
            yield Place(here, path, reloader)
            nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


@contextmanager
def reads(reloader: Reloader) -> Iterator[list[int]]:
    """How often the file was read again, one for each time."""
    metrics = reloader.runtime.metrics
    found: list[int] = []
    before = metrics.config_reloads + metrics.config_reload_failures
    yield found
    found += [1] * (metrics.config_reloads + metrics.config_reload_failures - before)


def written(path: Path, text: str) -> None:
    path.write_text(text)


# ---- when it is read -----------------------------------------------------------------------------------


def edited_in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.write(text)


def renamed_over(path: Path, text: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def replaced_in_two_steps(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def link_swapped(path: Path, text: str) -> None:
    """As a mounted ConfigMap does: the path leads through a link to a folder, and that is swapped."""
    fresh = path.parent / f"..{len(os.listdir(path.parent))}"
    fresh.mkdir()
    (fresh / path.name).write_text(text)
    link = path.parent / "..new"
    link.symlink_to(fresh.name)
    link.rename(path.parent / "..data")
    if not path.is_symlink():
        path.unlink()
        path.symlink_to(Path("..data") / path.name)


WAYS = [edited_in_place, renamed_over, replaced_in_two_steps, link_swapped]


@pytest.mark.parametrize("way", WAYS)
async def test_a_change_is_picked_up_in_time(
    way: Callable[[Path, str], None], path: Path, autojump_clock: object
) -> None:
    """Within two seconds, however it is made, and again each time."""
    async with watched(path) as place:
        for names in (["users", "other"], ["users"], ["users", "other"]):
            way(path, FILE + OTHER * (len(names) - 1))
            await trio.sleep(IN_TIME)
            assert place.endpoints == names


@pytest.mark.parametrize("way", WAYS)
async def test_no_request_fails_while_the_file_changes(
    way: Callable[[Path, str], None], path: Path, autojump_clock: object
) -> None:
    """32 clients ask on, some are in the middle of it at each swap, and all get their answers."""
    statuses: list[int] = []

    async def slowly(wire: Wire) -> None:
        while True:
            await wire.request()
            await trio.sleep(0.07)
            await wire.reply()

    async def ask(client: RawClient) -> None:
        while True:
            statuses.append((await client.get(USERS)).status)

    async with watched(path, slowly) as place, trio.open_nursery() as clients:
        for _ in range(32):
            clients.start_soon(ask, await place.here.client())
        for number in range(3):
            way(path, FILE + OTHER * (number % 2 == 0))
            await trio.sleep(IN_TIME)
        assert place.endpoints == ["users", "other"]
        clients.cancel_scope.cancel()
    assert len(statuses) > 32 * 50
    assert set(statuses) == {200}


async def test_nothing_is_read_without_a_change(path: Path, autojump_clock: object) -> None:
    """Neither at the start, nor for a touch, nor for the same text in another file."""
    async with watched(path) as place:
        with reads(place.reloader) as found:
            await trio.sleep(5)
            os.utime(path)
            await trio.sleep(2)
            renamed_over(path, FILE)
            await trio.sleep(2)
        assert found == []
        assert place.reloader.watching
    assert not place.reloader.watching


async def test_a_change_before_the_watch_began_is_seen(path: Path, autojump_clock: object) -> None:
    """The digest of the text that was loaded tells."""
    written(path, FILE)
    digest = digest_of(str(path))
    async with watched(path, text=FILE + OTHER, digest=digest) as place:
        with reads(place.reloader) as found:
            await trio.sleep(IN_TIME)
        assert len(found) == 1


async def test_a_file_that_is_being_written_is_waited_for(path: Path, autojump_clock: object) -> None:
    """An empty file is a valid config, and half a file may be one: neither is ever used."""
    seen = set()
    async with watched(path) as place:
        place.runtime.subscribe(lambda: seen.add(tuple(place.endpoints)))
        with path.open("w") as file:
            await trio.sleep(0.55)
            for line in (FILE + OTHER).splitlines(keepends=True):
                file.write(line)
                file.flush()
                await trio.sleep(0.06)
        await trio.sleep(IN_TIME)
        assert place.endpoints == ["users", "other"]
    assert seen == {("users", "other")}


async def test_a_missing_file_is_told_once(path: Path, autojump_clock: object) -> None:
    """What is in force stays; when the file is back all is well, whatever it says."""
    async with watched(path) as place:
        os.unlink(path)
        with reads(place.reloader) as found:
            await trio.sleep(10)
        assert len(found) == 1
        assert place.endpoints == ["users"]
        assert place.reloader.last_reload_error == f"{path}: cannot be read: No such file or directory"
        written(path, FILE)
        await trio.sleep(IN_TIME)
        assert place.reloader.last_reload_error is None


async def test_a_hangup_reads_at_once(path: Path) -> None:
    """SIGHUP reads the file also when it did not change: what it names may have."""
    written(path, FILE)
    async with world(FILE) as here, trio.open_nursery() as nursery:
        runtime = here.gateway.runtime
        reloader = Reloader(str(path), runtime)
        swapped = trio.Event()
        runtime.subscribe(swapped.set)
        await nursery.start(reload_on_hangup, reloader)
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(5):
            await swapped.wait()
        nursery.cancel_scope.cancel()


# ---- what it changes -----------------------------------------------------------------------------------


async def test_unchanged_endpoints_keep_everything(path: Path, autojump_clock: object) -> None:
    """Pool, breaker, health verdict, numbers, and streams that are open through any number of reloads."""

    async def streaming(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.send(b"1\r\n.\r\n")
            await trio.sleep(0.25)

    async with watched(path, streaming) as place:
        client = await place.here.client()
        await client.send(request(USERS))
        assert (await client.head()).status == 200
        upstream = place.runtime.upstreams["users"]
        held = (upstream.pool, upstream.breaker, upstream.stats, upstream.entry)
        for number in range(1, 4):
            edited_in_place(path, TOP + OTHER.replace("other", f"o{number}") + FILE.removeprefix(TOP))
            with trio.move_on_after(IN_TIME):
                while True:
                    assert await client.piece() == b"."
            assert place.endpoints == [f"o{number}", "users"]
        upstream = place.runtime.upstreams["users"]
        assert (upstream.pool, upstream.breaker, upstream.stats, upstream.entry) == held
        assert place.here.backend.connections == 1


async def test_removed_endpoints_finish_what_they_carry(path: Path, autojump_clock: object) -> None:
    """A request that was in flight gets its answer; the next one gets 404."""

    async def slowly(wire: Wire) -> None:
        await wire.request()
        await trio.sleep(5)
        await wire.reply()
        await wire.closed()

    async with watched(path, slowly) as place:
        client = await place.here.client()
        await client.send(request(USERS))
        edited_in_place(path, FILE.replace("name: users", "name: renamed"))
        await trio.sleep(IN_TIME)
        assert place.endpoints == ["renamed"]
        assert (await client.answer()).status == 200
        assert (await client.get(USERS)).status == 404


async def test_a_changed_target_is_asked_from_then_on(path: Path, autojump_clock: object) -> None:
    """New requests go to the new place; the old connections close."""
    async with watched(path) as place:
        here = place.here
        assert (await here.get(USERS)).status == 200
        second = Upstream(answering)
        await here.nursery.start(second.serve, here.network, "second.example", 80)
        edited_in_place(path, FILE.replace("backend.example", "second.example"))
        await trio.sleep(IN_TIME)
        assert (await here.get(USERS)).status == 200
        assert (here.backend.open, second.connections) == (0, 1)


async def test_what_the_api_registered_stays(path: Path, autojump_clock: object) -> None:
    """A reading of the file takes only the file's endpoints away."""
    async with watched(path) as place:
        place.runtime.register(EndpointConfig("http://a/", "a"), datetime.now(UTC))
        edited_in_place(path, TOP + OTHER)
        await trio.sleep(IN_TIME)
        assert place.endpoints == ["other", "a"]


@fault("S3")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BROKEN, ":5:40: endpoints[1].timeout: must be a duration: seconds, or 250ms, 5s, 1m, 2h"),
        (FILE + "  - {url: [", ":6:1: not a valid YAML file: "),
        (FILE + '  - {url: "http://y/", name: y, match: {prefix: /a}}\n' * 2, ""),
        (FILE + '  - {url: "https://y/", name: y, tls: {ca: /nowhere}}\n', ""),
        ("\x00", ""),
    ],
)
async def test_a_broken_file_changes_nothing(
    text: str, told: str, path: Path, autojump_clock: object
) -> None:
    """The same plan serves on; log, status, metrics and events say what is wrong, with its place."""
    if "match" in text:
        text = text.replace("name: y", "name: z", 1)
        told = ":6:40: endpoints[2].match: is identical with that of `z`"
    async with watched(path) as place:
        plan = place.runtime.plan
        with structlog.testing.capture_logs() as lines:
            edited_in_place(path, text)
            await trio.sleep(IN_TIME)
        assert place.runtime.plan is plan
        error = place.reloader.last_reload_error
        assert error is not None
        assert error.startswith(f"{path}{told}" if told else "")
        assert [line["problem"] for line in lines if line["log_level"] == "error"] == error.splitlines()
        metrics = place.runtime.metrics
        assert (metrics.config_reloads, metrics.config_reload_failures) == (0, 1)
        (event,) = place.runtime.events.recent(kind="config")
        assert event.cause == "broken file"
        assert (await place.here.get(USERS)).status == 200
        edited_in_place(path, FILE + OTHER)
        await trio.sleep(IN_TIME)
        assert place.reloader.last_reload_error is None
        assert place.endpoints == ["users", "other"]


# ---- what a reading tells ------------------------------------------------------------------------------


async def test_a_reading_tells_how_it_went(path: Path, autojump_clock: object) -> None:
    """To whoever asked for it, the same as in the log and the events."""
    async with watched(path) as place:
        edited_in_place(path, BROKEN)
        result = await place.reloader.reload()
        assert (result.success, result.endpoints_count) == (False, 1)
        assert result.errors == (place.reloader.last_reload_error,)
        edited_in_place(path, TOP.replace("8000", "9000") + OTHER + OTHER.replace("other", "more"))
        with structlog.testing.capture_logs() as lines:
            result = await place.reloader.reload()
        assert (result.success, result.errors, result.endpoints_count) == (True, (), 2)
        assert result.not_applied == ("server.bind",)
        told = {"added": 2, "changed": 0, "removed": 1, "sections": "server"}
        assert lines[-1] | told == lines[-1]
        (event, _) = place.runtime.events.recent(kind="config")
        assert (event.cause, event.details) == ("reloaded", told)


async def test_what_needs_a_restart_is_named_until_it_is_taken_back(
    path: Path, autojump_clock: object
) -> None:
    """What counts is the config that the process started with."""
    async with watched(path) as place:
        state_dir = "state_dir: /elsewhere\nlogging: {access_log: false}\n"
        for text, named in (
            (FILE + state_dir, ("logging.access_log", "state_dir")),
            (FILE + state_dir + "log_level: DEBUG", ("logging.access_log", "state_dir")),
            (FILE + "log_level: DEBUG", ()),
        ):
            edited_in_place(path, text)
            assert (await place.reloader.reload()).not_applied == named


async def test_a_reading_takes_new_certificates(path: Path, autojump_clock: object) -> None:
    """Other files or the same ones written anew; a broken one is the config's fault."""
    authority = Authority(path.parent)
    one, two = authority.issue("one.example", file="one"), authority.issue("two.example", file="two")
    text = (
        FILE.replace("{", "{{")
        .replace("}", "}}")
        .replace('8000"]', '8000"], tls: {{cert: {0.cert}, key: {0.key}}}')
    )
    async with watched(path, text=text.format(one)) as place:
        for pair, name in ((two, "two.example"), (one, "one.example"), (one, "three.example")):
            if name == "three.example":
                authority.issue(name, file="one")
            edited_in_place(path, text.format(pair))
            result = await place.reloader.reload()
            assert (result.success, result.not_applied) == (True, ())
            termination = place.runtime.termination
            assert termination is not None
            assert [found.names for found in termination.certificates.values()] == [(name,)]
        os.unlink(two.key)
        edited_in_place(path, text.format(two))
        result = await place.reloader.reload()
        assert result.errors == (f"server.tls.key: {two.key} can't be read: No such file or directory",)
        assert place.runtime.termination is termination
        edited_in_place(path, FILE)
        assert (await place.reloader.reload()).not_applied == ("server.tls",)
        assert place.runtime.termination is termination


async def test_tls_is_switched_on_by_a_restart(path: Path, autojump_clock: object) -> None:
    """The listeners' clients would be taken by surprise."""
    pair = Authority(path.parent).issue("one.example")
    async with watched(path) as place:
        edited_in_place(path, FILE.replace('8000"]', f'8000"], tls: {{cert: {pair.cert}, key: {pair.key}}}'))
        assert (await place.reloader.reload()).not_applied == ("server.tls",)
        assert place.runtime.termination is None


async def test_the_command_line_s_word_stands(path: Path, autojump_clock: object) -> None:
    """What it said in the file's place it says again, so nothing seems to need a restart."""

    def adjust(config: GatewayConfig) -> GatewayConfig:
        return evolve(config, server=evolve(config.server, bind=(BindConfig("127.0.0.1:8000"),)))

    async with watched(path, adjust=adjust) as place:
        edited_in_place(path, FILE.replace("8000", "7000"))
        assert (await place.reloader.reload()).not_applied == ()
        assert place.runtime.config.server.bind == (BindConfig("127.0.0.1:8000"),)


async def test_the_file_s_defaults_are_at_hand(path: Path, autojump_clock: object) -> None:
    """Those of the last good file, for endpoints that come through the API."""
    async with watched(path, environ={"SECONDS": "7"}) as place:
        edited_in_place(path, "timeout: ${SECONDS}\n" + FILE)
        await place.reloader.reload()
        edited_in_place(path, "timeout: soon\n" + FILE)
        await place.reloader.reload()
        read = read_endpoint({"url": "http://a/"}, place.reloader.defaults)
        assert read.config is not None
        assert read.config.timeout == 7
        assert not read.config.health_check.enabled


async def test_readings_come_one_after_the_other(path: Path, autojump_clock: object) -> None:
    """However many ask at once, each gets an answer about a file that it saw whole."""
    async with watched(path) as place:
        results = []

        async def ask() -> None:
            results.append(await place.reloader.reload())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert [result.success for result in results] == [True] * 5


async def test_a_large_file_is_read_beside_the_loop(path: Path) -> None:
    """A thousand endpoints: others have many turns while they are parsed, checked and applied."""
    many = "".join(f'  - {{url: "http://h{number}/", name: n{number}}}\n' for number in range(1000))
    written(path, FILE + many)
    async with world(FILE) as here, trio.open_nursery() as nursery:
        runtime, turns = here.gateway.runtime, 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(other)
        result = await Reloader(str(path), runtime).reload()
        nursery.cancel_scope.cancel()
    assert (result.success, result.endpoints_count) == (True, 1001)
    assert turns > 20
