"""What a TLS client meets: certificates by the name that it asks for, versions, and who must show one.

A Termination is made whole from the config's files and swapped whole; a handshake uses the one that stood
when it began, so new files reach new connections and no other.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from trio_gateway.config.certificates import Certificate, UnusableFile, load_client_ca, load_pair
from trio_gateway.config.model import CertificateConfig, ServerTls
from trio_gateway.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those that HTTP/2 allows (RFC 9113 9.2.2)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@frozen(eq=False)
class Termination:
    """The settings of new TLS connections. `certificates` are by path, `digest` is that of all files."""

    config: ServerTls
    context: ssl.SSLContext
    certificates: Mapping[str, Certificate]
    digest: bytes


def load_termination(config: ServerTls) -> Termination:
    """Read the files of `config`, which has a certificate. Raises ConfigError for one that can't be used."""
    digest = digest_of(config)  # before they are read: what is written meanwhile is seen as a change
    contexts: dict[str, ssl.SSLContext] = {}
    certificates = {}
    first = None
    for pair in config.pairs:
        try:
            context, certificate = _load(config, pair)
        except UnusableFile as unusable:
            raise ConfigError([f"server.tls.{unusable.key}: {unusable.file} {unusable}"]) from None
        certificates[pair.cert] = certificate
        first = first or context
        for name in certificate.names:
            contexts.setdefault(name, context)
    assert first is not None
    if len(certificates) > 1:
        _choose_by_name(first, contexts)
    return Termination(config, first, certificates, digest)


def files_of(config: ServerTls) -> list[str]:
    """Every file that a termination is made of."""
    files = [file for pair in config.pairs for file in (pair.cert, pair.key)]
    return [*files, config.client_ca] if config.client_ca else files


def digest_of(config: ServerTls) -> bytes:
    """What tells two contents of those files apart; a file that can't be read counts as an empty one."""
    digest = hashlib.sha256()
    for file in files_of(config):
        try:
            content = Path(file).read_bytes()
        except OSError:
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def _load(config: ServerTls, pair: CertificateConfig) -> tuple[ssl.SSLContext, Certificate]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate = load_pair(context, pair)
    if config.client_ca:
        load_client_ca(context, config.client_ca)
    return context, certificate


def _choose_by_name(first: ssl.SSLContext, contexts: Mapping[str, ssl.SSLContext]) -> None:
    """Let the name that a client asks for (RFC 6066 3) choose; a wildcard stands for one label."""

    def choose(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            name = name.lower()
            fitting = contexts.get(name) or contexts.get("*." + name.partition(".")[2])
            if fitting is not None:
                tls.context = fitting

    first.sni_callback = choose
