"""What a TLS client meets."""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from tests.support.authority import Authority
from trio_gateway.config.model import CertificateConfig, ServerTls
from trio_gateway.errors import ConfigError
from trio_gateway.observe.logs import log_unraisable
from trio_gateway.proxy.termination import Termination, files_of, load_termination


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority(tmp_path)


def served(authority: Authority, *certificates: tuple[str, ...], **options: object) -> Termination:
    """A termination with a certificate for each group of names."""
    pairs = [authority.issue(*names, file=f"{at}") for at, names in enumerate(certificates)]
    return load_termination(ServerTls(certificates=tuple(pairs), **options))  # type: ignore[arg-type]


def shaken(
    termination: Termination,
    client: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends behind a handshake in memory: the client's, and ours. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=name, session=session)
    answering = termination.context.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for end in (asking, answering):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return asking, answering


def shown(termination: Termination, client: ssl.SSLContext, name: str | None) -> tuple[str, ...]:
    """The names of the certificate that the client sees."""
    client.check_hostname = False
    names = (shaken(termination, client, name)[0].getpeercert() or {})["subjectAltName"]
    return tuple(value for _, value in names)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("asked", "first_name"),
    [
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("B.Example", "b.example"),
        ("x.b.example", "*.b.example"),
        ("special.b.example", "special.b.example"),
        ("y.x.b.example", "a.example"),
        ("unknown.example", "a.example"),
        ("b.example.", "a.example"),
        ("192.0.2.1", "a.example"),
        (None, "a.example"),
    ],
)
def test_the_name_that_is_asked_for_chooses(asked: str | None, first_name: str, authority: Authority) -> None:
    """The exact name before the wildcard, which stands for one label; the first certificate for all else."""
    termination = served(
        authority, ("a.example",), ("*.b.example", "z.example"), ("b.example",), ("special.b.example",)
    )
    assert shown(termination, authority.client(), asked)[0] == first_name


def test_one_certificate_is_shown_to_everybody(authority: Authority) -> None:
    """There is nothing to choose, so no name is looked at."""
    termination = served(authority, ("a.example",))
    assert termination.context.sni_callback is None
    assert shown(termination, authority.client(), "other.example") == ("a.example",)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
def test_alpn_prefers_http_2(offered: list[str], agreed: str | None, authority: Authority) -> None:
    """Whatever the certificate (RFC 7301)."""
    termination = served(authority, ("a.example",), ("b.example",))
    for name in ("a.example", "b.example"):
        asking, answering = shaken(termination, authority.client(*offered), name)
        assert asking.selected_alpn_protocol() == answering.selected_alpn_protocol() == agreed


@pytest.mark.parametrize(("least", "fits"), [("1.2", True), ("1.3", False)])
def test_old_versions_are_refused(least: str, fits: bool, authority: Authority) -> None:
    """Nothing below `min_version`, and never anything below 1.2."""
    termination = served(authority, ("a.example",), min_version=least)
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    if fits:
        assert shaken(termination, client, "a.example")[0].version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            shaken(termination, client, "a.example")


def test_tls_1_2_has_forward_secrecy_and_authenticated_ciphers_alone(authority: Authority) -> None:
    """Those that HTTP/2 allows (RFC 9113 9.2.2); no compression, and no second handshake."""
    context = served(authority, ("a.example",)).context
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")
    assert ssl.OP_NO_RENEGOTIATION in context.options
    assert ssl.OP_NO_COMPRESSION in context.options


def test_clients_must_show_a_certificate_where_a_client_ca_is_named(authority: Authority) -> None:
    """One of that CA's; whichever certificate of ours they see."""
    pairs = (authority.issue("a.example"), authority.issue("b.example", file="b"))
    termination = load_termination(ServerTls(certificates=pairs, client_ca=authority.pem))
    known = authority.ca.issue_cert("alice@example.org")
    stranger = trustme.CA().issue_cert("alice@example.org")
    for name in ("a.example", "b.example"):
        _, ours = shaken(termination, authority.client(show=known), name)
        assert (ours.getpeercert() or {})["subjectAltName"] == (("email", "alice@example.org"),)
        for other in (None, stranger):
            with pytest.raises(ssl.SSLError):
                shaken(termination, authority.client(show=other), name)


def test_a_file_that_can_t_be_used_is_named(authority: Authority) -> None:
    """With the key of the config, its path, and what is wrong."""
    good, other = authority.issue("a.example"), authority.issue("b.example", file="other")
    with pytest.raises(ConfigError) as error:
        load_termination(ServerTls(good.cert, other.key))
    assert error.value.problems == [f"server.tls.key: {other.key} does not belong to the certificate"]
    with pytest.raises(ConfigError) as error:
        load_termination(ServerTls(good.cert, good.key, client_ca=good.key))
    assert error.value.problems == [f"server.tls.client_ca: {good.key} holds no certificate in PEM form"]


def test_what_it_is_made_of_is_known(authority: Authority) -> None:
    """All files, certificates by their path, and a digest that tells new content from a mere touch."""
    pair = authority.issue("a.example")
    other = authority.issue("b.example", file="b")
    config = ServerTls(pair.cert, pair.key, client_ca=authority.pem, certificates=(other,))
    assert files_of(config) == [pair.cert, pair.key, other.cert, other.key, authority.pem]
    termination = load_termination(config)
    assert list(termination.certificates) == [pair.cert, other.cert]
    os.utime(pair.cert)
    assert load_termination(config).digest == termination.digest
    authority.issue("b.example", file="b")
    assert load_termination(config).digest != termination.digest


def test_certificates_may_stand_in_the_list_alone(authority: Authority) -> None:
    """Then the first of the list is the first."""
    pair = authority.issue("a.example")
    assert ServerTls(certificates=(pair,)).pairs == (pair,)
    assert ServerTls(pair.cert, pair.key).pairs == (CertificateConfig(pair.cert, pair.key),)
    assert ServerTls().pairs == ()


def test_a_server_name_that_is_no_text_fails_quietly(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake fails; the `ssl` module's complaint about it goes nowhere."""
    monkeypatch.setattr(sys, "unraisablehook", log_unraisable)
    termination = served(authority, ("a.example",), ("b.example",))
    client = authority.client()
    client.check_hostname = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(down, up, server_hostname="abcd.example").do_handshake()
    up.write(up.read().replace(b"abcd.example", b"\xff\xfe\xfd\xfc.example"))
    with capture_logs() as lines, pytest.raises(ssl.SSLError):
        termination.context.wrap_bio(up, down, server_side=True).do_handshake()
    assert lines == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_remembers_the_client_s_certificate(
    version: ssl.TLSVersion, authority: Authority
) -> None:
    """Its second connection is the same client's, though it shows nothing again; a new context asks anew."""
    pair = authority.issue("a.example")
    config = ServerTls(pair.cert, pair.key, client_ca=authority.pem)
    termination = load_termination(config)
    client = authority.client(show=authority.ca.issue_cert("alice@example.org"))
    client.maximum_version = version
    asking, answering = shaken(termination, client, "a.example")
    answering.write(b"x")
    assert asking.read(1) == b"x"
    for terminating, resumed in ((termination, True), (load_termination(config), False)):
        again, ours = shaken(terminating, client, "a.example", asking.session)
        assert again.session_reused is resumed
        assert ours.getpeercert(binary_form=True) == answering.getpeercert(binary_form=True)
