"""Where the management API of a running gateway is, and what opens it.

What stands on the command line counts. Otherwise the config file leads to the state directory, where the
gateway has noted its addresses and keeps the secret that signs its tokens. A token is made for each call
and lasts a minute. That there is none is no error yet: the gateway may take none, or may not be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

import attrs
import click
from attrs import field, frozen

from trio_gateway.admin.tokens import Scope, issue, signing_secret
from trio_gateway.background.folder import StateFolder, state_directory
from trio_gateway.cli.check import BAD_CONFIG, complain
from trio_gateway.cli.token import user_name
from trio_gateway.config.binds import TcpBind, UnixBind, parse_bind
from trio_gateway.config.load import load_config
from trio_gateway.config.model import GatewayConfig
from trio_gateway.config.search import find_config
from trio_gateway.errors import ConfigError

_LIFETIME = 60.0  # seconds that a token lasts
_LEADING = ("", "state_dir", "admin", "server")  # the parts of a config that lead to its gateway; "" is all
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where to call one who listens everywhere


@frozen
class Place:
    """The urls to try, in order, and the token; where there is none, `why` is the end of a sentence.

    An API behind a Unix socket is named `unix:/path`. `certificates` are the files of those that the
    gateway itself may show over TLS, whatever names stand in them.
    """

    urls: tuple[str, ...]
    token: str | None = field(repr=False)
    why: str = ""
    certificates: tuple[str, ...] = ()


class _NoKeyError(Exception):
    """No token can be made; the text says why, and what to do."""


def find(file: str | None, url: str | None, token: str | None, scope: Scope) -> Place:
    """The way to the gateway of a config file, in so far as `url` and `token` don't say it.

    Ends the program with 2 for a file that leads nowhere, with 1 when nothing says where the gateway is.
    """
    if url and token:
        return Place((url,), token)
    config = _read(file)
    store = StateFolder(state_directory(config.state_dir, os.environ))
    place = Place((url,), token) if url else Place(_urls(store, config), token, certificates=_own(config))
    if token or config.admin.auth == "none":
        return place
    try:
        return attrs.evolve(place, token=_minted(store, config, scope))
    except (_NoKeyError, ConfigError) as error:
        return attrs.evolve(place, why=str(error))


def _read(file: str | None) -> GatewayConfig:
    """The config. It may have mistakes where they don't matter: a gateway outlives a bad edit of its file."""
    path, asked = find_config(file, os.environ)
    if not asked and not os.path.exists(path):
        return GatewayConfig()
    loaded = load_config(path)
    serious = [problem for problem in loaded.problems if problem.path.partition(".")[0] in _LEADING]
    if serious:
        complain(attrs.evolve(loaded, problems=serious, warnings=[]))
        click.get_current_context().exit(BAD_CONFIG)
    return loaded.config


# ---- the address ------------------------------------------------------------------------------------


def _urls(store: StateFolder, config: GatewayConfig) -> tuple[str, ...]:
    """What the gateway noted, else what the config says; a port that the system chose says nothing."""
    found = [*_called(store.noted_addresses() or _configured(config))]
    if not found:
        raise click.ClickException(f"no gateway is there: none has noted its address in {store.directory}")
    return tuple(found)


def _configured(config: GatewayConfig) -> tuple[str, ...]:
    """As the gateway will note them."""
    if config.admin.bind is not None:
        return (config.admin.bind,)
    server = config.server
    return tuple("https://" * server.speaks_tls(bind) + bind.address for bind in server.bind)


def _called(addresses: Iterable[str]) -> Iterable[str]:
    for address in addresses:
        plain = address.removeprefix("https://")
        scheme = "http" if plain == address else "https"
        bind = parse_bind(plain)
        if isinstance(bind, UnixBind):
            yield str(bind)
        elif isinstance(bind, TcpBind) and bind.port:
            yield f"{scheme}://{TcpBind(_LOOPBACK.get(bind.host, bind.host), bind.port)}"


def _own(config: GatewayConfig) -> tuple[str, ...]:
    return tuple(pair.cert for pair in config.server.tls.pairs)


# ---- the key ----------------------------------------------------------------------------------------


def _minted(store: StateFolder, config: GatewayConfig, scope: Scope) -> str:
    assert config.admin.auth != "none"
    jwt = config.admin.auth.jwt
    if jwt.public_key_file or jwt.jwks_url:
        raise _NoKeyError("tokens come from your issuer: give one with --token")
    secret = signing_secret(jwt, lambda: _kept_secret(store))
    now = datetime.now(UTC)
    return issue(secret, jwt, subject=user_name(), scope=scope, ttl=_LIFETIME, now=now)


def _kept_secret(store: StateFolder) -> str:
    secret = store.kept_secret()
    if secret is None:
        reason = store.problem or "there is no secret"
        raise _NoKeyError(f"{store.directory}: {reason}: call as the gateway's user, or give --token")
    return secret
