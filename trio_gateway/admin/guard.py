"""What stands before every operation that is not open: whose page asks, under which name, with which token.

A browser on an operator's machine reaches what its owner reaches. Two checks keep a foreign page from
using that: the Host must be a name that is ours, so that a name which was rebound to our address gets
nowhere, and an Origin must be our own or one that `admin.cors` names, so that no foreign page can post.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import structlog
from attrs import define, field, frozen

from trio_gateway.admin.auth import ANYBODY, Authenticator, Principal
from trio_gateway.admin.operation import Operation
from trio_gateway.admin.tokens import Scope
from trio_gateway.config.addresses import is_loopback
from trio_gateway.config.binds import InheritedBind, TcpBind, is_local, parse_bind
from trio_gateway.config.model import AdminAuth, GatewayConfig
from trio_gateway.errors import ClientError, ConfigError

log = structlog.get_logger("trio_gateway.admin")
audit_log = structlog.get_logger("trio_gateway.audit")

_EVERYWHERE = frozenset(("0.0.0.0", "::"))  # noqa: S104  compared with, not bound


class HostNotAllowed(ClientError):
    """The request names a host that is not ours."""

    status = 403
    code = "host_not_allowed"
    default_detail = "This name is not in admin.allowed_hosts"


class OriginNotAllowed(ClientError):
    """A page of another origin asks."""

    status = 403
    code = "origin_not_allowed"
    default_detail = "This origin is not in admin.cors.origins"


@frozen
class Caller:
    """What of a request says where it comes from."""

    address: str
    host: str
    origin: str | None
    authorization: str | None


@define(eq=False)
class Guard:
    """Decides who may call an operation, by the config as it is at each request."""

    config: Callable[[], GatewayConfig]
    own_secret: Callable[[], str]
    _auth: AdminAuth | None = None
    _authenticator: Authenticator | None = field(default=None, repr=False)

    async def admit(self, caller: Caller, scope: Scope) -> Principal:
        """The caller of an operation that needs `scope`. Raises the error that answers it."""
        config = self.config()
        if scope != "open":
            check_place(caller, config)
        if config.admin.auth == "none":
            return ANYBODY
        return await self._current(config.admin.auth).authorize(caller.authorization, scope)

    def _current(self, auth: AdminAuth) -> Authenticator:
        """The authenticator of the config. After a reload to keys that can't be used the old one stays."""
        if auth is self._auth and self._authenticator is not None:
            return self._authenticator
        try:
            self._authenticator = Authenticator.of(auth, self.own_secret)
        except ConfigError as error:
            if self._authenticator is None:
                raise
            log.exception("new keys can't be used; the old ones stay", exc_info=error)
        self._auth = auth
        return self._authenticator

    def check(self, config: GatewayConfig) -> GatewayConfig:
        """The config, if its keys can be used: before it is applied. Raises ConfigError."""
        if config.admin.auth != "none":
            Authenticator.of(config.admin.auth, self.own_secret)
        return config


def check_place(caller: Caller, config: GatewayConfig) -> None:
    """Raises HostNotAllowed or OriginNotAllowed."""
    name = host_name(caller.host)
    if not _is_ours(name, config):
        raise HostNotAllowed(cause=caller.host)
    if (
        caller.origin is None
        or caller.origin in config.admin.cors.origins
        or "*" in config.admin.cors.origins
    ):
        return
    if caller.origin.partition("://")[2].lower() != caller.host.lower():
        raise OriginNotAllowed(cause=caller.origin)


def host_name(authority: str) -> str:
    """The host of an authority in lower case, without port and brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def _is_ours(name: str, config: GatewayConfig) -> bool:
    """Loopback names, bound addresses and allowed hosts. A listener on every address has them all, and
    an inherited one may be such: no name that is an address can be rebound."""
    if is_loopback(name):
        return True
    binds = [parse_bind(address) for address in config.management_addresses]
    bound = {bind.host for bind in binds if isinstance(bind, TcpBind)}
    anywhere = bound & _EVERYWHERE or any(isinstance(bind, InheritedBind) for bind in binds)
    if name in bound or (anywhere and _is_address(name)):
        return True
    return any(_fits(name, pattern) for pattern in config.admin.allowed_hosts)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern.strip("[]")


# ---- who did what ------------------------------------------------------------------------------------


def audit(
    operation: Operation, caller: Caller, subject: str, status: int, path: str, request_id: str
) -> None:
    """One line for a change that was made, or tried."""
    audit_log.info(
        "audit",
        subject=subject,
        operation=operation.name,
        result=status,
        path=path,
        client=caller.address,
        request_id=request_id,
    )


def exposure(config: GatewayConfig) -> str | None:
    """What an operator must be told at start about a management API that is open to others, or None."""
    if config.admin.auth != "none":
        return None
    exposed = [bind for bind in config.management_addresses if not is_local(parse_bind(bind))]
    if not exposed:
        return None
    return f"admin.auth is none: whoever reaches {', '.join(exposed)} can change this gateway"
