"""The command line: one file a verb, each imported only when its verb is called.

`run` is the default verb, so that the old gateway's options work without a verb too. Exit codes: 0
clean, 1 failed, 2 bad usage or config.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

VERBS = {
    "run": "Serve a config file; the default verb.",
    "check": "Name every mistake in a config file and print what will be in force.",
    "init": "Write a commented config file.",
    "explain": "Show what would become of a request, without sending it.",
    "demo": "Start three sample backends and a gateway before them.",
    "status": "Show how a running gateway is.",
    "endpoints": "List its endpoints.",
    "routes": "List its routes.",
    "reload": "Have it read its config file again.",
    "breaker": "Reset or trip an endpoint's circuit breaker.",
    "probe": "Check an endpoint's health now.",
    "enable": "Let traffic through to an endpoint again.",
    "disable": "Stop an endpoint's traffic.",
    "token": "Print a token for the management API.",
    "version": "Print the version.",
}
"""Every verb and what it does, in the order of `--help`; the module has the verb's name."""

_OWN_OPTIONS = ("--help", "-h", "--version")


class _Verbs(click.Group):
    """A group that knows its commands by name, and loads one when it is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default verb in front where none is named."""
        if not args or (args[0].startswith("-") and args[0] not in _OWN_OPTIONS):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The verbs, loaded or not."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb's module and take its `command`."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"trio_gateway.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trio-gateway", message="%(package)s %(version)s")
def main() -> None:
    """An API gateway on Trio: a YAML file names backends, the gateway stands in front of them."""
    _hold_standard_streams()


def _hold_standard_streams() -> None:
    """Put the null device where a standard stream is closed: the next socket would take its number, and
    the logs would be written into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
