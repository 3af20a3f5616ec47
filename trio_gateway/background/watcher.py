"""The config file while the gateway runs: when to read it again, and what a reading does.

The watcher waits until the file changes and then holds still, and compares contents, so that a mere touch
does nothing. A hangup signal and the management API skip all that and read at once.

A reading is parsed, checked and compared beside the event loop, and applied in one swap. Whatever is wrong
with it changes nothing, and is said in the log, in the metrics and to whoever asks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from operator import attrgetter

import structlog
import trio
from attrs import define, field, frozen

from trio_gateway.background.changes import FileChanges
from trio_gateway.background.notify import READY, notify, reloading
from trio_gateway.config.diff import ConfigDiff, diff
from trio_gateway.config.load import collector_paused, digest_of, load_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.config.source import Recall, Table
from trio_gateway.errors import ConfigError
from trio_gateway.observe.logs import set_level
from trio_gateway.proxy.aside import Aside, beside_the_loop
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.termination import Termination, load_termination

log = structlog.get_logger("trio_gateway.config")

STARTED_WITH = (
    "server.bind",
    "admin.bind",
    "metrics.bind",
    "metrics.enabled",
    "metrics.path",
    "logging.access_log",
    "logging.format",
    "state_dir",
)
"""What only a restart changes: listeners, the state directory, where and how the logs are written."""


@frozen
class ReloadResult:
    """How a reload went: the problems if it failed, how many endpoints the file has, and what has to wait.

    `not_applied` names what differs from the config that the process started with, and needs a restart.
    """

    success: bool
    errors: tuple[str, ...]
    endpoints_count: int
    not_applied: tuple[str, ...] = ()


@frozen(eq=False)
class _Reading:
    config: GatewayConfig
    defaults: Table
    recall: Recall
    warnings: tuple[str, ...]
    changes: ConfigDiff
    contexts: object  # TLS settings, kept loaded until the pools have them
    termination: Termination | None


@define(eq=False)
class Reloader:
    """Reads the config file again. All of it may be asked at any time, by anybody.

    `defaults` are the current file's, for endpoints that come from elsewhere; `recall` is what its reading
    remembers; `digest` is that of the text that was read last, None before; `adjust` puts in what the
    command line said; `warn` is what an operator must hear of a config that was applied.
    """

    path: str
    runtime: Runtime
    defaults: Table = field(factory=Table)
    recall: Recall = field(factory=Recall, repr=False)
    digest: bytes | None = None
    adjust: Callable[[GatewayConfig], GatewayConfig] = lambda config: config
    warn: Callable[[GatewayConfig], str | None] = lambda _config: None
    environ: Mapping[str, str] = field(default=os.environ, repr=False)
    aside: Aside = beside_the_loop
    watching: bool = field(init=False, default=False)
    last_reload_error: str | None = field(init=False, default=None)
    _started: GatewayConfig | None = field(init=False, default=None)
    _one: trio.Lock = field(init=False, factory=trio.Lock)

    async def reload(self) -> ReloadResult:
        """Read, check and apply the file. A broken one is no exception: it changes nothing, and is told."""
        async with self._one:
            if self._started is None:
                self._started = self.runtime.config
            try:
                self.digest = await self.aside(digest_of, self.path)
                reading = await self.aside(self._read)
                async with self.runtime.changing:
                    await self.runtime.apply_in_slices(reading.config)
            except ConfigError as error:
                return self._failed(error.problems)
            return self._succeeded(reading)

    def _read(self) -> _Reading:
        """All that takes long, in another thread; the source's tree goes before the collector sees it.

        Raises ConfigError.
        """
        with collector_paused():
            loaded = load_config(self.path, self.environ, self.recall)
            config = self.adjust(loaded.require())
            return _Reading(
                config,
                loaded.defaults,
                loaded.recall,
                tuple(map(str, loaded.warnings)),
                diff(self.runtime.config, config),
                self.runtime.live.load_tls(config.endpoints),
                self._termination(config),
            )

    def _termination(self, config: GatewayConfig) -> Termination | None:
        """What TLS connections get from now on; None where a restart switches TLS on or off."""
        if self.runtime.termination is None or not config.server.tls.pairs:
            return None
        return load_termination(config.server.tls)

    def _failed(self, problems: list[str]) -> ReloadResult:
        for problem in problems:
            log.error("the config file is not used", problem=problem)
        self.last_reload_error = "\n".join(problems)
        self.runtime.metrics.config_reload_failures += 1
        self.runtime.metrics.config_is_broken = True
        self.runtime.events.record("config", "broken file", problems=len(problems), first=problems[0])
        return ReloadResult(False, tuple(problems), len(self.runtime.config.endpoints))

    def _succeeded(self, reading: _Reading) -> ReloadResult:
        self.defaults, self.recall = reading.defaults, reading.recall
        self.last_reload_error = None
        if reading.termination is not None:
            self.runtime.terminate_with(reading.termination)
        metrics, changes = self.runtime.metrics, reading.changes
        if "log_level" in changes.sections:
            set_level(reading.config.log_level)
        metrics.config_reloads += 1
        metrics.config_is_broken = False
        metrics.config_loaded_at = time.time()
        told: dict[str, str | int | float | None] = {
            "added": len(changes.added),
            "changed": len(changes.changed),
            "removed": len(changes.removed),
            "sections": ", ".join(changes.sections),
        }
        self.runtime.events.record("config", "reloaded", None, **told)
        for warning in reading.warnings:
            log.warning("config", problem=warning)
        if danger := self.warn(reading.config):
            log.warning(danger)
        not_applied = self._not_applied(reading.config)
        if not_applied:
            log.warning("a restart is needed for some of the config", keys=list(not_applied))
        log.info("config reloaded", **told)
        return ReloadResult(True, (), len(reading.config.endpoints), not_applied)

    def _not_applied(self, config: GatewayConfig) -> tuple[str, ...]:
        started = self._started or config
        differing = [path for path in STARTED_WITH if attrgetter(path)(config) != attrgetter(path)(started)]
        if bool(config.server.tls.pairs) != bool(started.server.tls.pairs):
            differing.append("server.tls")  # on or off; certificates change at any time
        return tuple(differing)


@define(eq=False)
class Watcher:
    """Has the reloader read the file when it changes."""

    reloader: Reloader

    async def run(self) -> None:
        """Look each second, until cancelled."""
        reloader = self.reloader
        if reloader.digest is None:
            reloader.digest = await reloader.aside(digest_of, reloader.path)
        changes = FileChanges(lambda: (reloader.path,))
        reloader.watching = True
        try:
            while True:
                await changes.next()
                if await reloader.aside(digest_of, reloader.path) != reloader.digest:
                    await reloader.reload()
        finally:
            reloader.watching = False


async def reload_on_hangup(
    reloader: Reloader, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Reload at each SIGHUP, and tell the service manager; runs until cancelled, in the main thread."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(reloading())
            await reloader.reload()
            notify(READY)
