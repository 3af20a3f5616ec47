"""`trio-gateway check`: every mistake in a config file, and what will be in force.

The effective config goes to standard output, with problems and warnings beside it on standard error as
`file:line:col: path: message`, so that the output is a config file again. With `--json` all of it is
one object on standard output.
"""

from __future__ import annotations

import json

import attrs
import click

from trio_gateway.config.load import Loaded, load_config
from trio_gateway.config.problems import Problem
from trio_gateway.config.show import effective, effective_yaml

BAD_CONFIG = 2


@click.command()
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
def command(file: str, as_json: bool, strict: bool) -> None:
    """Name every mistake in FILE and print what will be in force, without secrets.

    Exits with 0 when the file can be used, with 2 when it can't.
    """
    loaded = load_config(file).examined()
    report(loaded.strict() if strict else loaded, as_json=as_json)


def report(loaded: Loaded, *, as_json: bool = False) -> None:
    """Print what was found and what is in force. Ends the program with 2 when there are problems."""
    if as_json:
        click.echo(json.dumps(_as_data(loaded), indent=2))
    else:
        complain(loaded)
        if not loaded.problems:
            click.echo(effective_yaml(loaded.config, loaded.positions), nl=False)
    if loaded.problems:
        click.get_current_context().exit(BAD_CONFIG)


def complain(loaded: Loaded) -> None:
    """Print problems and warnings to standard error, a line each, and how many there are."""
    for problem in loaded.problems:
        click.echo(f"{problem}", err=True)
    for warning in loaded.warnings:
        click.echo(f"{_with_word(warning)}", err=True)
    if loaded.problems:
        click.echo(_count(len(loaded.problems)), err=True)


def _with_word(warning: Problem) -> str:
    return str(attrs.evolve(warning, message=f"warning: {warning.message}"))


def _count(problems: int) -> str:
    return f"{problems} problem{'s' * (problems > 1)}: the file can't be used"


def _as_data(loaded: Loaded) -> dict[str, object]:
    return {
        "valid": not loaded.problems,
        "problems": [attrs.asdict(problem) for problem in loaded.problems],
        "warnings": [attrs.asdict(warning) for warning in loaded.warnings],
        "config": None if loaded.problems else effective(loaded.config, loaded.positions),
    }
