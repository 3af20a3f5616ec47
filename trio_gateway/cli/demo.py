"""`trio-gateway demo`: three sample backends and a gateway before them, to play with or to check."""

from __future__ import annotations

import signal
import sys
from contextlib import aclosing

import click
import trio

from trio_gateway.config.binds import TcpBind, parse_bind
from trio_gateway.demo.checks import run_checks
from trio_gateway.demo.stage import Stage, Temper, open_stage
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.logs import configure

FAILED = 1

_STDOUT = 1
_LAST_LINES = 1.0
_IN_A_HURRY = Temper(timeout=0.3, reset_timeout=0.3)


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT", help="The gateway's."
)
@click.option("--check", is_flag=True, help="Send requests, print what each showed, and exit with 0 or 1.")
def command(bind: str, check: bool) -> None:
    """Start three sample backends and a gateway before them, until Ctrl-C."""
    try:
        place = parse_bind(bind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bind") from None
    if not isinstance(place, TcpBind):
        raise click.BadParameter("must be HOST:PORT", param_hint="--bind")
    bind = str(place)
    configure("text", "error" if check else "warning", sys.stderr)  # failures that it provokes are no news
    refused = ""
    try:
        code = trio.run(_check) if check else trio.run(_play, bind)
    except* OSError as errors:
        refused = _first(errors)
    if refused:
        raise click.ClickException(f"{bind}: {refused}; choose another address with --bind")
    click.get_current_context().exit(code)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return getattr(error, "strerror", None) or str(error)


# ---- to play with ---------------------------------------------------------------------------------


async def _play(bind: str) -> int:
    access_log = AccessLog(_STDOUT, "text")
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with open_stage(bind, Temper(), access_log=access_log) as stage:
                click.echo(welcome(stage))
                access_log.start()
                async for _ in signals:
                    break
    finally:
        access_log.close(_LAST_LINES)
    return 0


def welcome(stage: Stage) -> str:
    """What runs where, the config that did it, and what to try."""
    base, flaky = stage.base, stage.backends["flaky"].url
    backends = [f"  {name:<8} {backend.url}" for name, backend in stage.backends.items()]
    commands = [
        (f"curl '{base}/users/42?tag=a&tag=b'", "path and query are kept"),
        (f"head -c 50000000 /dev/zero | curl -T - -X POST {base}/users/upload", "a streamed upload"),
        (f"curl -N '{base}/events?count=5'", "events, one by one"),
        (f"curl -i {base}/flaky/hang", f"504 after {stage.temper.timeout:g} s"),
        (f"curl -X POST {flaky}/break", "directly at the backend: from now on it fails"),
        (f"curl -i {base}/flaky/", f"call it {stage.temper.failures + 1} times: the breaker opens"),
        (f"curl -X POST {flaky}/mend", f"it recovers within {stage.temper.reset_timeout:g} s"),
    ]
    return "\n".join(
        [
            f"The gateway serves {base} in front of",
            *backends,
            "",
            "with this config:",
            "",
            *(f"  {line}" for line in stage.config_text.splitlines()),
            "",
            "To try:",
            "",
            *(f"  {line}\n      # {remark}" for line, remark in commands),
            "",
            "Ctrl-C ends it. A line for each request:",
            "",
        ]
    )


# ---- to check -------------------------------------------------------------------------------------


async def _check() -> int:
    began = trio.current_time()
    shown = total = 0
    async with (
        open_stage("127.0.0.1:0", _IN_A_HURRY) as stage,
        aclosing(run_checks(stage)) as findings,
    ):
        async for finding in findings:
            total += 1
            shown += finding.shown
            click.echo(f"{'ok  ' if finding.shown else 'FAIL'}  {finding.title:<20} {finding.sentence}")
    click.echo(f"{shown} of {total} shown in {trio.current_time() - began:.1f} s")
    return 0 if shown == total else FAILED
