"""`trio-gateway version`: which gateway, on what."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click

from trio_gateway import __version__


@click.command()
def command() -> None:
    """Print the version, and those of Trio and Python."""
    click.echo(f"trio-gateway {__version__} (trio {version('trio')}, Python {platform.python_version()})")
