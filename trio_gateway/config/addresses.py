"""How urls, hosts, networks and paths are written in a config, and their one normal form.

As in `config.values`: text in, value out, ValueError with the end of a sentence that quotes nothing.
A target's scheme, host and port come from here alone, so what is ambiguous is refused rather than
repaired (RFC 3986): user names, fragments, dot segments, backslashes.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, quote, urlsplit

Address = tuple[str, int]
"""Host and port of one end of a connection. A Unix socket's is `unix:/path` and 0."""

UNIX_PEER: Final = "unix:"
"""What stands for the address of everybody who comes through a Unix socket, as in nginx."""

AnyNetwork = IPv4Network | IPv6Network | Literal["unix:"]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_ILLEGAL = re.compile(r"[\x00-\x20\x7f\\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@]*)+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def http_url(text: str) -> str:
    """An absolute http or https url: scheme and host in lower case, no default port, never an empty path."""
    if _ILLEGAL.search(text):
        raise ValueError("must not contain spaces, control characters or backslashes")
    parts = _split(text)
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise ValueError("must be an absolute url that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password: set an Authorization header instead")
    if "#" in text:
        raise ValueError("must not contain a fragment (`#`)")
    query = "?" + _escaped(parts.query) if parts.query else ""
    return f"{parts.scheme}://{_authority(parts)}{_url_path(parts.path)}{query}"


def origin(text: str) -> str:
    """A value of `Origin` (RFC 6454): scheme://host[:port] in lower case, `null`, or `*` for all."""
    if text in ("*", "null"):
        return text
    parts = _split(text)
    if _ILLEGAL.search(text) or not parts.scheme or parts.netloc == "" or parts.path or parts.query:
        raise ValueError("must be an origin, scheme://host or scheme://host:port without a path, or `*`")
    return f"{parts.scheme}://{_authority(parts)}"


def host_pattern(text: str) -> str:
    """A host name or address without a port, in lower case; `*.` in front stands for any labels."""
    name = text.strip().lower()
    _host(name.removeprefix("*."))
    return name


def network(text: str) -> AnyNetwork:
    """An address or a network in CIDR form, or `unix:` for all who come through a Unix socket."""
    if text == UNIX_PEER:
        return UNIX_PEER
    try:
        found = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("must be an address, a network such as 10.0.0.0/8, or `unix:`") from None
    if str(found.network_address) != str(ip_address(text.strip().partition("/")[0])):
        raise ValueError(f"has bits set behind its prefix length; did you mean `{found}`?")
    return found


def bare_host(text: str) -> str:
    """A host name or address in lower case, IPv6 without the brackets that it is written in."""
    return _host(text).strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a host, without brackets, is this machine by name or address; nobody else can be there."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def path_prefix(text: str) -> str:
    """A path of whole segments: begins with `/`, has none at its end, but `/` alone."""
    path = text.rstrip("/") or "/"
    if not _PATH.fullmatch(path) or ("//" in path) or not text:
        raise ValueError("must be a path that begins with `/`, without escapes, `//`, `?` or `#`")
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("must not contain `.` or `..` segments")
    return path


def probe_path(text: str) -> str:
    """What is asked of a target: a path with an optional query, or an absolute url."""
    if "://" in text:
        return http_url(text)
    if _ILLEGAL.search(text) or "#" in text or _BAD_ESCAPE.search(text):
        raise ValueError("must be a path, without spaces, control characters or a fragment")
    return _escaped(text)


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("is not a valid url") from None


def _authority(parts: SplitResult) -> str:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    if port == 0:
        raise ValueError("has a port that is not a number from 1 to 65535")
    host = _host(parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":"))
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


def _host(text: str) -> str:
    """A host in lower case: a name (IDNA where it has to be), an address, IPv6 in brackets."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{_ipv6(text[1:-1])}]"
    try:
        name = text.lower() if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name) or len(name) > 254:
        raise ValueError("has no valid host name or address")
    return name


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError("has no valid IPv6 address in its brackets") from None
    if address.scope_id:
        raise ValueError("must not name a zone in an IPv6 address")
    return address


def _url_path(path: str) -> str:
    segments = path.lower().replace("%2e", ".").split("/")
    if not {".", ".."}.isdisjoint(segments):
        raise ValueError("must not contain `.` or `..` segments")
    return _escaped(path) or "/"


def _escaped(text: str) -> str:
    """The same text in ASCII; escapes that stand in it already are kept."""
    if _BAD_ESCAPE.search(text):
        raise ValueError("contains a `%` that begins no valid escape")
    return text if text.isascii() else quote(text, safe="%/?:@!$&'()*+,;=-._~[]|{}^`\"<>")


Url = Annotated[str, http_url]
Origin = Annotated[str, origin]
HostPattern = Annotated[str, host_pattern]
Network = Annotated[AnyNetwork, network]
PathPrefix = Annotated[str, path_prefix]
ProbePath = Annotated[str, probe_path]
