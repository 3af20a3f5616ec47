"""What proxies before us say of the client: X-Forwarded-* and Forwarded (RFC 7239).

Each proxy adds itself at the right end, so from there on the word of a trusted one counts, up to the first
that nobody vouches for. X-Forwarded-For is asked first; where a proxy sends only Forwarded, that is.
Whether the direct peer may speak for others at all is for the caller to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from trio_gateway.config.addresses import UNIX_PEER, AnyNetwork
from trio_gateway.domain.access import address_of, within
from trio_gateway.domain.fields import RawHeaders

_node = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([^\[\]]*)").fullmatch
_authority = re.compile(rb"(?:[A-Za-z0-9._~%-]{1,255}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_scheme = re.compile(rb"(?i)https?").fullmatch

_LONGEST = 4096  # bytes of all Forwarded that are read
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'  # possessive: a value that is broken fails in one pass
_well_quoted = re.compile(rb'(?:[^"]++|%b)*+' % _QUOTED).fullmatch
_elements = re.compile(rb'(?:[^",]++|%b)++' % _QUOTED).findall
_pairs = re.compile(rb'(?:[^";]++|%b)++' % _QUOTED).findall
_unescape = re.compile(rb"\\(.)").sub


def client_address(peer: str, headers: RawHeaders, trusted: Sequence[AnyNetwork]) -> str:
    """The first untrusted address from the right, when the peer is trusted.

    Where every address is trusted it is the first of all. What is no address (`unknown`, a made-up name)
    ends the walk at the one before it, since only that hop's word stands behind it.
    """
    client = peer
    for entry in _hops(headers):
        if not within(client, trusted):
            break
        address = _bare_address(entry)
        if address is None:
            break
        client = address
    return client


def client_origin(headers: RawHeaders, scheme: bytes, host: bytes) -> bytes:
    """Scheme and authority of the url that the client has used, as the nearest proxy tells.

    What it leaves out, or says in no usable way, is as the proxy's own request has it.
    """
    said = next(_forwarded(headers), {})
    scheme = _told(headers, b"x-forwarded-proto", said.get(b"proto"), _scheme) or scheme
    host = _told(headers, b"x-forwarded-host", said.get(b"host"), _authority) or host
    return scheme.lower() + b"://" + host if host else b""


def address_field(peer: str) -> bytes:
    """A peer as a field's value names it: nothing for who has no address."""
    return b"" if peer == UNIX_PEER else peer.encode()


def forwarded_element(peer: bytes, scheme: bytes) -> bytes:
    """What we add to a Forwarded that came; a peer without an address is `unknown` (RFC 7239 6)."""
    node = b'"[%b]"' % peer if b":" in peer else peer or b"unknown"
    return b"for=%b;proto=%b" % (node, scheme)


def _told(
    headers: RawHeaders, name: bytes, other: bytes | None, usable: Callable[[bytes], object]
) -> bytes | None:
    values = [value for key, value in headers if key.lower() == name]
    said = values[-1].rpartition(b",")[2].strip(b" \t") if values else other
    return said if said is not None and usable(said) else None


def _hops(headers: RawHeaders) -> Iterator[str]:
    """What proxies say of who came to them, from the right."""
    listed = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
    if listed:
        for entry in reversed(b",".join(listed).split(b",")):
            yield entry.strip(b" \t").decode("latin-1")
    else:
        for element in _forwarded(headers):
            yield element.get(b"for", b"").decode("latin-1")


def _forwarded(headers: RawHeaders) -> Iterator[dict[bytes, bytes]]:
    """The elements of Forwarded from the right, names in lower case; none where its quoting is broken."""
    value = b",".join(value for name, value in headers if name.lower() == b"forwarded")
    if not value or len(value) > _LONGEST or not _well_quoted(value):
        return
    for element in reversed(_elements(value)):
        yield dict(map(_name_and_value, _pairs(element)))


def _name_and_value(pair: bytes) -> tuple[bytes, bytes]:
    name, _, value = pair.strip(b" \t").partition(b"=")
    return name.lower(), _unescape(rb"\1", value[1:-1]) if value[:1] == b'"' else value


def _bare_address(entry: str) -> str | None:
    """An entry's address without brackets and port, in its usual spelling; None when it is none."""
    if entry == UNIX_PEER:
        return entry
    found = _node(entry)
    address = address_of(found[1] or found[2] or found[3] or "") if found else None
    return None if address is None else str(address)
