"""Certificate files: what stands in them, and whether it can be used.

Files are read where the gateway serves or somebody on its machine asks, never for a text that came over
the management API: its answer would tell what lies where. That is why these rules stand apart from
`check`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from attrs import frozen

from trio_gateway.config.model import CertificateConfig, GatewayConfig, ServerTls
from trio_gateway.config.problems import Path

if TYPE_CHECKING:
    from cryptography import x509

_SOON = 14 * 86400.0  # seconds before its end at which a certificate is worth a warning


class UnusableFile(Exception):
    """A file that can't serve: the key of the config that names it, its path, and the end of a sentence."""

    def __init__(self, key: str, file: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.file = file


@frozen
class Certificate:
    """What a certificate says: the names and addresses it is for, and when it holds (Unix seconds)."""

    names: tuple[str, ...]
    begins: float
    expires: float


def load_pair(context: ssl.SSLContext, pair: CertificateConfig) -> Certificate:
    """Have `context` show a certificate, and tell what it says. Raises UnusableFile."""
    certificate = _certificate(pair.cert)
    _check_key(pair.key, certificate)
    try:
        context.load_cert_chain(pair.cert, pair.key)
    except OSError as error:
        raise UnusableFile("cert", pair.cert, f"can't be used: {_reason(error)}") from None
    begins, expires = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Certificate(_names(certificate), begins.timestamp(), expires.timestamp())


def load_client_ca(context: ssl.SSLContext, path: str) -> None:
    """Have `context` ask clients for a certificate of one of these CAs. Raises UnusableFile."""
    _content("client_ca", path)
    try:
        context.load_verify_locations(path)
    except OSError:
        raise UnusableFile("client_ca", path, "holds no certificate in PEM form") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _content(key: str, path: str) -> bytes:
    try:
        return FilePath(path).read_bytes()
    except OSError as error:
        raise UnusableFile(key, path, f"can't be read: {error.strerror or error}") from None


def _certificate(path: str) -> x509.Certificate:
    from cryptography.x509 import load_pem_x509_certificate  # the commands that need none don't wait for it

    try:
        return load_pem_x509_certificate(_content("cert", path))
    except ValueError:
        raise UnusableFile("cert", path, "holds no certificate in PEM form") from None


def _check_key(path: str, certificate: x509.Certificate) -> None:
    """Raise UnusableFile where OpenSSL would say no more than "PEM lib", or ask a terminal for a password."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_content("key", path), None)
    except TypeError:
        message = "is encrypted: store it without a password, readable by us alone"
        raise UnusableFile("key", path, message) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableFile("key", path, "holds no private key in PEM form") from None
    if key.public_key() != certificate.public_key():
        raise UnusableFile("key", path, "does not belong to the certificate")


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return ()
    hosts, addresses = names.get_values_for_type(DNSName), names.get_values_for_type(IPAddress)
    return (*(host.lower() for host in hosts), *map(str, addresses))


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error).lower().replace("_", " ")


# ---- what `check` says of them ----------------------------------------------------------------------


def file_findings(config: GatewayConfig) -> Iterator[tuple[Path, str]]:
    """What forbids a config because of the files that it names, as `check` yields it."""
    for path, load in _loads(config.server.tls):
        try:
            load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except UnusableFile as unusable:
            yield (*path, unusable.key), str(unusable)


def file_advice(config: GatewayConfig, now: float | None = None) -> Iterator[tuple[Path, str]]:
    """What their author should know of certificates that can be used, at `now` (Unix seconds)."""
    now = time.time() if now is None else now
    known: set[str] = set()
    for path, load in _loads(config.server.tls):
        try:
            certificate = load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except UnusableFile:
            continue
        if certificate is not None:
            for message in _advice(certificate, now, known):
                yield (*path, "cert"), message
            known.update(certificate.names)


def _advice(certificate: Certificate, now: float, known: set[str]) -> Iterator[str]:
    if certificate.expires <= now:
        yield f"expired on {_day(certificate.expires)}"
    elif certificate.expires <= now + _SOON:
        yield f"expires on {_day(certificate.expires)}"
    if certificate.begins > now:
        yield f"is not valid before {_day(certificate.begins)}"
    if not certificate.names:
        yield "names no host (subjectAltName): clients refuse it"
    elif known.issuperset(certificate.names):
        yield "is never shown: certificates before it have all of its names"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _loads(tls: ServerTls) -> Iterator[tuple[Path, Callable[[ssl.SSLContext], Certificate | None]]]:
    """What loads each thing that stands in files, and where in the config it is named."""
    path: Path = ("server", "tls")
    own = len(tls.pairs) - len(tls.certificates)
    for index, pair in enumerate(tls.pairs):
        where = path if index < own else (*path, "certificates", index - own)
        yield where, partial(load_pair, pair=pair)
    if tls.client_ca:
        yield path, partial(load_client_ca, path=tls.client_ca)
