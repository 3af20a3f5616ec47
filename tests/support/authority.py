"""A certificate authority of our own, and its certificates as the files that a config names."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme
from attrs import define, field

from trio_gateway.config.model import CertificateConfig


@define
class Authority:
    """A CA that keeps its files in `folder`."""

    folder: Path
    ca: trustme.CA = field(factory=trustme.CA)

    def write(self, name: str, *blobs: trustme.Blob) -> str:
        """A PEM file."""
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    @property
    def pem(self) -> str:
        """The CA's own certificate."""
        return self.write("ca.pem", self.ca.cert_pem)

    def issue(self, *names: str, file: str = "server", **options: Any) -> CertificateConfig:
        """A certificate for these names, in `file`.pem and `file`.key."""
        leaf = self.ca.issue_cert(*names, **options)
        chain = self.write(f"{file}.pem", *leaf.cert_chain_pems)
        return CertificateConfig(chain, self.write(f"{file}.key", leaf.private_key_pem))

    def server(self, *names: str) -> ssl.SSLContext:
        """What a server of these names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def client(self, *protocols: str, show: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """What a client needs that trusts the CA, asks for these protocols and shows `show`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if show is not None:
            show.configure_cert(context)
        return context
