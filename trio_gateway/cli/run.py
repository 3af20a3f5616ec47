"""`trio-gateway run`: serve a config file until a signal says stop.

What counts: the command line, then the environment, then the file. Logs go to standard error, the
access log to standard output, so that a pipe takes either apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Literal

import attrs
import click
import structlog
from click.core import ParameterSource

from trio_gateway.cli.check import BAD_CONFIG, complain, report
from trio_gateway.config.binds import TcpBind, parse_bind
from trio_gateway.config.load import Loaded, digest_of, load_config
from trio_gateway.config.model import BindConfig, GatewayConfig
from trio_gateway.config.model.server import listener
from trio_gateway.config.search import create_config, find_config
from trio_gateway.observe.logs import configure

log = structlog.get_logger("trio_gateway")

_LOCALLY = TcpBind("127.0.0.1", 8000)  # where the config has no port

LEVELS = ("debug", "info", "warning", "error", "critical")


@click.command()
@click.option("-c", "--config", "file", metavar="FILE", help="The config file.  [env: CONFIG_PATH]")
@click.option(
    "--bind",
    multiple=True,
    metavar="ADDRESS",
    help="Listen here instead: HOST:PORT, unix:/path or fd://N; may be repeated.",
)
@click.option("--host", envvar="HOST", help="Listen on this host instead.  [env: HOST]")
@click.option("--port", envvar="PORT", type=click.IntRange(0, 65535), help="... on this port.  [env: PORT]")
@click.option("--log-level", envvar="LOG_LEVEL", type=click.Choice(LEVELS, False), help="[env: LOG_LEVEL]")
@click.option("--log-format", type=click.Choice(("text", "json")), help="Of both logs.")
@click.option("--reload", envvar="RELOAD", is_flag=True, help="Accepted; does nothing.  [env: RELOAD]")
@click.option("--validate-only", is_flag=True, help="Check the config file like `check`, then exit.")
@click.pass_context
def command(
    context: click.Context,
    file: str | None,
    bind: tuple[str, ...],
    host: str | None,
    port: int | None,
    log_level: str | None,
    log_format: Literal["text", "json"] | None,
    reload: bool,
    validate_only: bool,
) -> None:
    """Serve a config file until SIGTERM or SIGINT; a second signal ends it at once.

    Without --config the file is $CONFIG_PATH, or config/config.yaml, which is created when missing. An
    ADDRESS is HOST:PORT, unix:/path or fd://N.
    """
    path, asked = find_config(file, os.environ)
    if validate_only:
        report(load_config(path).examined())
        context.exit(0)
    if bind and _typed(context, "host", "port"):
        raise click.UsageError("--bind replaces --host and --port: give one or the other")
    created = not asked and _create(path)
    digest = digest_of(path)  # before it is read: a change in between is not missed
    loaded = load_config(path).examined()
    if loaded.problems:
        complain(loaded)
        context.exit(BAD_CONFIG)
    binds = _parsed(bind)

    def adjust(config: GatewayConfig) -> GatewayConfig:
        return override(config, binds or _hosted(host, port, config.server.bind), log_level, log_format)

    config = adjust(loaded.config)
    configure(config.logging.format, config.log_level, sys.stderr)
    _say_what_to_know(loaded, path if created else None, reload)
    from trio_gateway.cli.serving import serve  # the servers' imports cost more than all of the above
    from trio_gateway.supervisor import Source

    source = Source(path, loaded.defaults, digest, adjust, loaded.recall)
    del loaded  # the file's tree is large, and nobody will ask for it
    context.exit(serve(config, source))


def _typed(context: click.Context, *options: str) -> bool:
    """Whether one of the options stands on the command line, not only in the environment."""
    return any(context.get_parameter_source(option) is ParameterSource.COMMANDLINE for option in options)


def _create(path: str) -> bool:
    try:
        return create_config(path)
    except OSError as error:
        click.echo(f"{path}: cannot be created: {error.strerror or error}", err=True)
        return False


def _parsed(binds: Sequence[str]) -> tuple[BindConfig, ...]:
    """The listeners of `--bind`, each once."""
    try:
        return tuple(dict.fromkeys(listener(bind) for bind in binds))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bind") from None


def _hosted(host: str | None, port: int | None, configured: tuple[BindConfig, ...]) -> tuple[BindConfig, ...]:
    """The one address of `--host` and `--port`; the half that is missing is the config's first port's."""
    if host is None and port is None:
        return configured
    ports = [bind for each in configured if isinstance(bind := parse_bind(each.address), TcpBind)]
    first = ports[0] if ports else _LOCALLY
    host = first.host if host is None else host.strip("[]")
    port = first.port if port is None else port
    try:
        return (listener(str(TcpBind(host, port))),)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--host") from None


def override(
    config: GatewayConfig,
    binds: tuple[BindConfig, ...],
    log_level: str | None,
    log_format: Literal["text", "json"] | None,
) -> GatewayConfig:
    """The config with what the command line and the environment say in its place; None leaves it."""
    return attrs.evolve(
        config,
        server=attrs.evolve(config.server, bind=binds),
        log_level=log_level.upper() if log_level else config.log_level,
        logging=attrs.evolve(config.logging, format=log_format or config.logging.format),
    )


def _say_what_to_know(loaded: Loaded, created: str | None, reload: bool) -> None:
    if created is not None:
        log.info("no config file was there: a starter without an endpoint was written", config=created)
    for warning in loaded.warnings:
        log.warning("config", problem=str(warning))
    if reload:
        log.warning("--reload is accepted and does nothing in this version: restart to apply a change")
