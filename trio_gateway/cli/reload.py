"""`trio-gateway reload`: what is in the config file now is in force, or it is told why not."""

from __future__ import annotations

import click

from trio_gateway.cli.control import FAILED, Api, operates
from trio_gateway.cli.tables import printable


@click.command()
@operates("write")
def command(api: Api) -> None:
    """Have a running gateway read its config file again.

    A file with mistakes changes nothing; they are named, and the exit code is 1.
    """
    found = api.call("POST", "/config/reload")
    told = f"reloaded: the file has {found['endpoints_count']} endpoints"
    if found["not_applied"]:
        told += f"\na restart is needed for {', '.join(found['not_applied'])}"
    api.tell(found, told if found["success"] else "nothing was changed")
    for problem in found["errors"]:
        click.echo(printable(problem), err=True)
    if not found["success"]:
        click.get_current_context().exit(FAILED)
