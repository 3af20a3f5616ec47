"""How a client's verified certificate is told to upstreams: Envoy's `X-Forwarded-Client-Cert`.

    Hash=<SHA-256 of the DER>;Subject="CN=alice,O=Example";URI="spiffe://example.org/alice";DNS="alice.example.org"

The subject is RFC 4514's. Whatever a CA has signed, no octet of it leaves its quotes: what is no printable
ASCII is written `\\XX`, as in RFC 4514, and quotes and backslashes are escaped.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

_unprintable = re.compile(rb"[^ -~]")


def identity_of(certificate: bytes) -> bytes:
    """The field's value for a certificate in DER. What can't be read of it is left out."""
    from cryptography.x509 import load_der_x509_certificate  # only who verifies clients pays for it

    parts = [b"Hash=" + hashlib.sha256(certificate).hexdigest().encode()]
    try:
        parsed = load_der_x509_certificate(certificate)
        parts.append(b"Subject=" + _quoted(parsed.subject.rfc4514_string()))
        parts += _alternative_names(parsed)
    except ValueError:
        pass  # OpenSSL is content with it, and its hash tells who it is
    return b";".join(parts)


def _alternative_names(certificate: x509.Certificate) -> list[bytes]:
    from cryptography.x509 import (
        DNSName,
        ExtensionNotFound,
        SubjectAlternativeName,
        UniformResourceIdentifier,
    )

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    uris = names.get_values_for_type(UniformResourceIdentifier)
    hosts = names.get_values_for_type(DNSName)
    return [*(b"URI=" + _quoted(uri) for uri in uris), *(b"DNS=" + _quoted(host) for host in hosts)]


def _quoted(text: str) -> bytes:
    octets = text.encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + _unprintable.sub(lambda found: b"\\\\%02X" % found[0][0], octets) + b'"'
