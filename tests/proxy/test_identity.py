"""What upstreams are told of a client's certificate."""

from __future__ import annotations

import hashlib
import re

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.proxy.identity import _quoted, identity_of

CA = trustme.CA()
FIELD = re.compile(rb'(?:Hash=[0-9a-f]{64}|(?:Subject|URI|DNS)="(?:[^"\\]|\\["\\])*")')


def der(certificate: trustme.LeafCert) -> bytes:
    """The certificate without its chain."""
    pem = certificate.cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_hash_subject_and_names_are_told() -> None:
    """As Envoy writes them, so that backends behind Envoy need no change."""
    certificate = der(CA.issue_cert("alice.example.org", common_name="alice", organization_name="Example"))
    digest = hashlib.sha256(certificate).hexdigest()
    told = identity_of(certificate).decode()
    found = re.fullmatch(rf'Hash={digest};Subject="([^"]*)";DNS="alice.example.org"', told)
    assert found
    assert {"CN=alice", "O=Example"} <= set(found[1].split(","))


def test_what_openssl_takes_and_nobody_can_read_has_a_hash() -> None:
    """It is verified, so it is somebody."""
    assert identity_of(b"no certificate") == b"Hash=" + hashlib.sha256(b"no certificate").hexdigest().encode()


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("CN=a,O=b", b'"CN=a,O=b"'),
        ('CN=a\\";Hash=0', b'"CN=a\\\\\\";Hash=0"'),
        ("CN=a\r\nX-Admin: 1", b'"CN=a\\\\0D\\\\0AX-Admin: 1"'),
        ("CN=Zoë", b'"CN=Zo\\\\C3\\\\AB"'),
    ],
)
def test_nothing_leaves_its_quotes(text: str, quoted: bytes) -> None:
    """A CA may have signed anything."""
    assert _quoted(text) == quoted


@given(st.text())
def test_any_text_is_one_printable_value(text: str) -> None:
    """Whose quotes a parser of quoted strings (RFC 9110 5.6.4) finds where they are."""
    assert FIELD.fullmatch(b"URI=" + _quoted(text))
    assert all(0x20 <= octet < 0x7F for octet in _quoted(text))
