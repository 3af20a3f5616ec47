"""Where to listen: HOST:PORT, `unix:/path` or `fd://N`. As in `config.addresses`, text in, value out."""

from __future__ import annotations

import os
import re
from typing import Annotated

from attrs import frozen

from trio_gateway.config.addresses import UNIX_PEER, Address, bare_host, is_loopback

_LONGEST_PATH = 107  # bytes, sockaddr_un(7)
_EXAMPLES = "0.0.0.0:8000, [::]:8000, unix:/run/gateway.sock or fd://3"


@frozen
class TcpBind:
    """A port of a host's, without brackets. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class UnixBind:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"{UNIX_PEER}{self.path}"


@frozen
class InheritedBind:
    """A listening socket that whoever started us has opened, by its descriptor."""

    descriptor: int

    def __str__(self) -> str:
        return f"fd://{self.descriptor}"


AnyBind = TcpBind | UnixBind | InheritedBind


def parse_bind(text: str) -> AnyBind:
    """The place that `text` names. Raises ValueError with the end of a sentence."""
    text = text.strip()
    if text.startswith(UNIX_PEER):
        return _unix(text.removeprefix(UNIX_PEER))
    if text.startswith("fd:"):
        return _inherited(text.removeprefix("fd:"))
    host, colon, port = text.lower().rpartition(":")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"must be HOST:PORT, unix:/path or fd://N, for example {_EXAMPLES}")
    return TcpBind(bare_host(host), int(port))


def address_text(address: Address) -> str:
    """A bound address as it would be configured."""
    host, port = address
    return host if host.startswith(UNIX_PEER) else str(TcpBind(host, port))


def bind_address(text: str) -> str:
    """The normal form of a place to listen."""
    return str(parse_bind(text))


def is_local(bind: AnyBind) -> bool:
    """Whether only this machine's processes can be behind it, as far as its text tells."""
    return isinstance(bind, UnixBind) or (isinstance(bind, TcpBind) and is_loopback(bind.host))


def _unix(path: str) -> UnixBind:
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("must name a socket by its whole path, for example unix:/run/gateway.sock")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError(f"must be a path of at most {_LONGEST_PATH} bytes")
    return UnixBind(path)


def _inherited(number: str) -> InheritedBind:
    if not re.fullmatch(r"//[0-9]{1,7}", number) or int(number[2:]) < 3:
        raise ValueError("must name an inherited descriptor from 3 on, for example fd://3")
    return InheritedBind(int(number[2:]))


Bind = Annotated[str, bind_address]
