"""Certificate files, as an operator gets them wrong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.support.authority import Authority
from trio_gateway.config.certificates import UnusableFile, load_client_ca, load_pair
from trio_gateway.config.load import Loaded, parse_config
from trio_gateway.config.model import CertificateConfig

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority(tmp_path)


def context() -> ssl.SSLContext:
    """A server's."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def examined(*pairs: CertificateConfig, client_ca: str | None = None) -> Loaded:
    """A config that names these files: the first as server.tls, the others below it."""
    listed = ", ".join(f"{{cert: {pair.cert}, key: {pair.key}}}" for pair in pairs[1:])
    ca = f", client_ca: {client_ca}" if client_ca else ""
    first = f"cert: {pairs[0].cert}, key: {pairs[0].key}"
    text = f"server:\n  tls: {{{first}, certificates: [{listed}]{ca}}}"
    return parse_config(text, "gateway.yaml", {}).examined()


def told(loaded: Loaded) -> list[tuple[str, str]]:
    """The problems, or the warnings where there is none."""
    return [(problem.path, problem.message) for problem in loaded.problems or loaded.warnings]


# ---- what a certificate says --------------------------------------------------------------------------


def test_a_certificate_tells_its_names_and_its_time(authority: Authority) -> None:
    """Names in lower case, addresses behind them; times are Unix seconds."""
    end = NOW.replace(microsecond=0) + 90 * DAY
    pair = authority.issue("Example.org", "*.example.org", "192.0.2.1", not_after=end)
    certificate = load_pair(context(), pair)
    assert certificate.names == ("example.org", "*.example.org", "192.0.2.1")
    assert certificate.expires == end.timestamp()
    assert certificate.begins < NOW.timestamp()


def test_a_client_ca_makes_clients_show_a_certificate(authority: Authority) -> None:
    """Nobody comes in without."""
    settings = context()
    load_client_ca(settings, authority.pem)
    assert settings.verify_mode == ssl.CERT_REQUIRED
    assert len(settings.get_ca_certs()) == 1


# ---- what is wrong with files --------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", list(trustme.KeyType))
def test_good_files_are_good(key_type: trustme.KeyType, authority: Authority) -> None:
    """Of any kind of key, and several at once."""
    pairs = (authority.issue("a.example", key_type=key_type), authority.issue("b.example", file="b"))
    assert told(examined(*pairs, client_ca=authority.pem)) == []


def test_each_file_that_can_t_be_used_is_told_at_its_place(authority: Authority) -> None:
    """All of them at once, with the cure."""
    good, other = authority.issue("a.example"), authority.issue("b.example", file="other")
    missing = CertificateConfig(good.cert + ".gone", good.key)
    swapped = CertificateConfig(good.cert, other.key)
    empty = CertificateConfig(good.cert, good.cert)
    nonsense = CertificateConfig(good.key, good.key)
    ca = authority.write("empty.pem")
    assert told(examined(missing, swapped, empty, nonsense, client_ca=ca)) == [
        ("server.tls.cert", "can't be read: No such file or directory"),
        ("server.tls.certificates[0].key", "does not belong to the certificate"),
        ("server.tls.certificates[1].key", "holds no private key in PEM form"),
        ("server.tls.certificates[2].cert", "holds no certificate in PEM form"),
        ("server.tls.client_ca", "holds no certificate in PEM form"),
    ]


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    """OpenSSL would wait for an answer at the terminal."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    pair = authority.issue("a.example")
    key = load_pem_private_key(Path(pair.key).read_bytes(), None)
    Path(pair.key).write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    assert told(examined(pair)) == [
        ("server.tls.key", "is encrypted: store it without a password, readable by us alone")
    ]
    with pytest.raises(UnusableFile) as error:
        load_pair(context(), pair)
    assert (error.value.key, error.value.file) == ("key", pair.key)


def test_what_openssl_refuses_is_told_in_its_words(authority: Authority) -> None:
    """A key that is too small, for one."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + 90 * DAY)
    cert = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    small = CertificateConfig(
        authority.write("small.pem", trustme.Blob(cert)), authority.write("small.key", trustme.Blob(pem))
    )
    assert told(examined(small)) == [("server.tls.cert", "can't be used: ee key too small")]


def test_a_text_alone_is_not_examined(authority: Authority) -> None:
    """What comes over the management API must not tell what lies where."""
    text = "server: {tls: {cert: /nowhere/a.pem, key: /nowhere/a.key}}"
    assert parse_config(text, "body", {}).problems == []


# ---- what is odd with certificates ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "message"),
    [
        (NOW - 9 * DAY, NOW - 2 * DAY, f"expired on {NOW - 2 * DAY:%Y-%m-%d}"),
        (NOW - 9 * DAY, NOW + 2 * DAY, f"expires on {NOW + 2 * DAY:%Y-%m-%d}"),
        (NOW + 2 * DAY, NOW + 90 * DAY, f"is not valid before {NOW + 2 * DAY:%Y-%m-%d}"),
    ],
)
def test_a_certificate_out_of_its_time_is_a_warning(
    begins: datetime, ends: datetime, message: str, authority: Authority
) -> None:
    """It can be served, and an operator wants to hear of it."""
    pair = authority.issue("a.example", not_before=begins, not_after=ends)
    assert told(examined(pair)) == [("server.tls.cert", message)]


def test_a_certificate_that_nobody_sees_is_a_warning(authority: Authority) -> None:
    """Without a name no client takes it; with no name of its own it is never chosen."""
    pairs = (
        authority.issue("a.example", "b.example"),
        authority.issue("B.example", file="same"),
        authority.issue(file="nameless", common_name="c.example"),
        authority.issue("192.0.2.1", file="address"),
    )
    assert told(examined(*pairs)) == [
        (
            "server.tls.certificates[0].cert",
            "is never shown: certificates before it have all of its names",
        ),
        ("server.tls.certificates[1].cert", "names no host (subjectAltName): clients refuse it"),
    ]
