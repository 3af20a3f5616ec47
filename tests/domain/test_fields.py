from __future__ import annotations

import pytest

from trio_gateway.config.model import HeaderChanges
from trio_gateway.domain.fields import Changes, Fate, Fates, bound_to_connection, connection_options, without


@pytest.mark.parametrize(
    "name",
    (
        b"connection keep-alive te trailer transfer-encoding upgrade http2-settings content-length expect "
        b"proxy proxy-connection proxy-authorization proxy-authenticate proxy-anything"
    ).split(),
)
def test_bound_to_connection(name: bytes) -> None:
    """What RFC 9110 7.6.1 names, all framing, and every `Proxy-*` field end at the gateway."""
    assert bound_to_connection(name)


@pytest.mark.parametrize(
    "name", b"host via date content-type content-encoding te-x x-te sec-websocket-key".split()
)
def test_not_bound_to_connection(name: bytes) -> None:
    """All other fields are end to end."""
    assert not bound_to_connection(name)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"close", set()),
        (b"Keep-Alive", set()),
        (b"close, X-Secret", {b"close", b"x-secret"}),
        (b" a ,\tB,,c", {b"a", b"b", b"", b"c"}),
    ],
)
def test_connection_options(value: bytes, options: set[bytes]) -> None:
    """Options are read without case and spaces; `close` alone nominates nothing."""
    assert connection_options(value) == options


def test_fates_judge_each_spelling_once() -> None:
    """The judge sees a name in lower case, once for each spelling."""
    judged: list[bytes] = []

    def judge(name: bytes) -> Fate | None:
        judged.append(name)
        return Fate.DROP if name == b"te" else None

    fates = Fates(judge)
    assert [fates[name] for name in (b"TE", b"te", b"TE", b"Accept", b"Accept")] == [
        *[Fate.DROP] * 3,
        None,
        None,
    ]
    assert judged == [b"te", b"te", b"accept"]


def test_fates_are_bounded() -> None:
    """Names that a client invents, many or long, do not pile up."""
    fates = Fates(lambda _name: None)
    for number in range(10_000):
        assert fates[b"x-%d" % number] is None
    assert fates[b"x" * 1000] is None
    assert len(fates) <= 512
    assert b"x" * 1000 not in fates


def test_without() -> None:
    """Fields are left out by name without case; the others keep order and octets."""
    fields = [(b"A", b"1"), (b"b", b"2"), (b"a", b"3"), (b"C", b"\xff")]
    assert without(fields, frozenset((b"a",))) == [(b"b", b"2"), (b"C", b"\xff")]


def test_changes() -> None:
    """What is set or removed replaces the message's fields; what is added stands beside them."""
    changes = Changes.of(HeaderChanges(set={"X-A": "1"}, add={"X-B": "2"}, remove=("X-C",)))
    assert changes.replaced == {b"x-a", b"x-c"}
    assert changes.fields == ((b"X-A", b"1"), (b"X-B", b"2"))
