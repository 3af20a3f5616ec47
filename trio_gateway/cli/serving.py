"""What `run` does when all is settled: the gateway from its first line in the log to its exit code."""

from __future__ import annotations

import gc
import os
import sys

import click
import structlog
import trio

from trio_gateway.background.folder import state_directory
from trio_gateway.background.notify import READY, notify
from trio_gateway.background.state import StateStore
from trio_gateway.background.watcher import reload_on_hangup
from trio_gateway.cli.check import BAD_CONFIG
from trio_gateway.config.binds import address_text
from trio_gateway.config.model import GatewayConfig
from trio_gateway.errors import ConfigError
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.logs import log_unraisable
from trio_gateway.supervisor import Gateway, Source

log = structlog.get_logger("trio_gateway")

FAILED = 1

_STDOUT = 1
_LAST_LINES = 0.25  # seconds for the access log's writer when the gateway has stopped


def serve(config: GatewayConfig, source: Source) -> int:
    """Run the gateway to its end and tell how it ended, as an exit code."""
    access_log = open_access_log(config)
    sys.unraisablehook = log_unraisable
    try:
        return trio.run(_serve, config, source, access_log)
    except Exception as crash:
        log.critical("the gateway failed", exc_info=crash)
        return FAILED
    finally:
        if access_log is not None:
            access_log.close(_LAST_LINES)
            if access_log.dropped:
                log.warning("access log lines were lost", lines=access_log.dropped)


def open_access_log(config: GatewayConfig) -> AccessLog | None:
    """A running access log on standard output, or None where the config wants none."""
    if not config.logging.access_log:
        return None
    as_text = config.logging.format == "text" or (config.logging.format == "auto" and os.isatty(_STDOUT))
    access_log = AccessLog(_STDOUT, "text" if as_text else "json")
    access_log.start()
    return access_log


async def _serve(config: GatewayConfig, source: Source, access_log: AccessLog | None) -> int:
    store = StateStore(state_directory(config.state_dir, os.environ))
    gateway = Gateway(config, source=source, store=store, access_log=access_log)
    async with trio.open_nursery() as signals:
        await signals.start(gateway.stop_on_signals)
        await signals.start(reload_on_hangup, gateway.reloader)
        code = await _until_stopped(gateway, source.path)
        signals.cancel_scope.cancel()
    return code


async def _until_stopped(gateway: Gateway, path: str) -> int:
    config = gateway.config
    async with trio.open_nursery() as serving:
        try:
            addresses = await serving.start(gateway.run)
        except ConfigError as error:
            click.echo(str(error), err=True)
            return BAD_CONFIG
        except OSError as error:
            binds = [bind.address for bind in config.server.bind]
            reason = error.strerror or str(error)
            log.error("cannot listen", on=binds, error=f"{error.filename}: {reason}")  # noqa: TRY400  one clear line
            return FAILED
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it, least of all the one at exit
        bound = [address_text(address) for address in addresses]
        log.info("ready", addresses=bound, config=path, endpoints=len(config.endpoints))
        notify(READY)
    log.info("stopped")
    return 0
