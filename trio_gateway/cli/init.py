"""`trio-gateway init`: a first config file."""

from __future__ import annotations

import click

from trio_gateway.config.search import DEFAULT_PATH, create_config


@click.command()
@click.argument("file", type=click.Path(dir_okay=False), default=DEFAULT_PATH)
def command(file: str) -> None:
    """Write a commented config without an active endpoint to FILE (config/config.yaml).

    What stands there already is never overwritten.
    """
    try:
        written = create_config(file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror or error}") from None
    if not written:
        raise click.ClickException(f"{file} exists already and was not touched")
    click.echo(f"{file} written. Name a backend in it, then: trio-gateway run -c {file}")
