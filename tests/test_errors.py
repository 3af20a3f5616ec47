"""The tree of errors: each knows its answer and who is to blame."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trio_gateway.errors import (
    BadRequest,
    CircuitOpen,
    ClientError,
    ClientGone,
    ConfigError,
    ConnectFailed,
    ConnectionStale,
    ConnectTimedOut,
    GatewayError,
    MethodNotAllowed,
    RouteNotFound,
    UpstreamError,
    UpstreamReset,
    UpstreamTimeout,
)


def tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for branch in root.__subclasses__():
        yield from tree(branch)


EVERY = [error for error in tree(GatewayError) if error.__module__ == GatewayError.__module__]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_each_error_is_a_whole_answer(error: type[GatewayError]) -> None:
    """A status, a phrase, a code, a sentence, and somebody to blame."""
    answer = error()
    assert 400 <= answer.status <= 599
    assert answer.title
    assert answer.code.isidentifier()
    assert answer.detail == error.default_detail
    assert answer.source in ("client", "gateway", "upstream")
    assert error.__doc__


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_blame_follows_the_tree(error: type[GatewayError]) -> None:
    """Only an upstream's failure is one to the circuit breaker, and only it is worth another try."""
    branches = {ClientError: "client", UpstreamError: "upstream", GatewayError: "gateway"}
    source = next(name for branch, name in branches.items() if issubclass(error, branch))
    assert error.source == source
    assert (error.failure_kind is None) == (source != "upstream" or error is UpstreamError)
    assert not error.retry_safe or source == "upstream"


def test_codes_name_one_error_each() -> None:
    """So that a client can tell them apart; a base, and a case that is for our own use, share theirs."""
    codes = [error.code for error in EVERY if error not in (ClientError, ConnectionStale)]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("error", "status", "safe"),
    [
        (BadRequest, 400, False),
        (RouteNotFound, 404, False),
        (MethodNotAllowed, 405, False),
        (ClientGone, 499, False),
        (CircuitOpen, 503, False),
        (ConnectFailed, 502, True),
        (ConnectTimedOut, 504, True),
        (UpstreamReset, 502, False),
        (ConnectionStale, 502, True),
        (UpstreamTimeout, 504, False),
    ],
)
def test_well_known_answers(error: type[GatewayError], status: int, safe: bool) -> None:
    """What clients of the old gateway and operators rely on."""
    assert (error.status, error.retry_safe) == (status, safe)


def test_the_cause_is_for_the_log_alone() -> None:
    """It shows in the text of the exception, never in what the client reads."""
    error = ConnectFailed(cause="10.0.0.7: refused")
    assert error.detail == "Bad gateway - connection error"
    assert str(error) == "Bad gateway - connection error (10.0.0.7: refused)"
    assert str(BadRequest("Odd")) == "Odd"


def test_a_config_error_has_a_line_per_problem() -> None:
    """All mistakes at once."""
    assert str(ConfigError(["a.yaml:1:2: one", "a.yaml:3:4: two"])).splitlines() == [
        "a.yaml:1:2: one",
        "a.yaml:3:4: two",
    ]
