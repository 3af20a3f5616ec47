"""`trio-gateway token`: a token for the management API, signed with the gateway's own secret."""

from __future__ import annotations

import getpass
import json
import os
from datetime import UTC, datetime, timedelta
from typing import cast

import click

from trio_gateway.admin.tokens import Scope, issue, signing_secret
from trio_gateway.background.folder import StateFolder, state_directory
from trio_gateway.cli.check import BAD_CONFIG, complain
from trio_gateway.config.load import load_config
from trio_gateway.config.model import GatewayConfig, JwtConfig
from trio_gateway.config.search import find_config
from trio_gateway.config.values import duration
from trio_gateway.errors import ConfigError


@click.command()
@click.option("-c", "--config", "file", metavar="FILE", help="The config file.  [env: CONFIG_PATH]")
@click.option(
    "--scope",
    type=click.Choice(("read", "operate", "write")),
    default="read",
    show_default=True,
    help="What it may do; each includes the ones before it.",
)
@click.option("--ttl", default="8h", show_default=True, metavar="DURATION", help="How long it is good for.")
@click.option("--subject", metavar="NAME", help="Whom the audit log names; the user by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context, file: str | None, scope: str, ttl: str, subject: str | None, as_json: bool
) -> None:
    """Print a bearer token for the management API.

    Without a secret in the config it is signed with the one in the state directory, which is made if it
    is not there yet.
    """
    seconds = _seconds(ttl)
    path, asked = find_config(file, os.environ)
    loaded = load_config(path) if asked or os.path.exists(path) else None
    if loaded is not None and loaded.problems:
        complain(loaded)
        context.exit(BAD_CONFIG)
    config = GatewayConfig() if loaded is None else loaded.config
    now = datetime.now(UTC)
    jwt = _rules(config)
    token = issue(
        _secret(config, jwt),
        jwt,
        subject=subject or user_name(),
        scope=cast("Scope", scope),
        ttl=seconds,
        now=now,
    )
    expires = (now + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    click.echo(json.dumps({"token": token, "scope": scope, "expires": expires}) if as_json else token)


def _seconds(ttl: str) -> float:
    try:
        return duration(ttl)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None


def user_name() -> str:
    """Whom the audit log names: the user, by number where there is no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _rules(config: GatewayConfig) -> JwtConfig:
    if config.admin.auth == "none":
        raise click.ClickException("admin.auth is none: the management API takes no token")
    jwt = config.admin.auth.jwt
    if jwt.public_key_file or jwt.jwks_url:
        raise click.ClickException("tokens are signed by whoever has the private key: ask your issuer")
    return jwt


def _secret(config: GatewayConfig, jwt: JwtConfig) -> bytes:
    store = StateFolder(state_directory(config.state_dir, os.environ))
    try:
        return signing_secret(jwt, lambda: _own_secret(store))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()


def _own_secret(store: StateFolder) -> str:
    """The secret in the state directory, made if it is not there yet."""
    secret = store.kept_secret() or store.secret()
    if store.problem is not None:
        raise click.ClickException(f"{store.directory} can't be used: {store.problem}")
    return secret
