from __future__ import annotations

import re

import pytest
from attrs import evolve

from trio_gateway.config.model import HeaderChanges, HeadersConfig
from trio_gateway.domain.headers import Hop, RawHeaders, compile_request
from trio_gateway.domain.trace import context_of, ids_of, new_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = f"00-{TRACE}-{SPAN}-01".encode()
STATE = (b"tracestate", b"congo=t61rcWkgMzE")
HOP = Hop(b"id-1", b"192.0.2.7", False, b"http", b"gw.example", b"/orchestrator/users", b"1.1")


def sent(headers: RawHeaders, hop: Hop | None = None, rules: HeadersConfig | None = None) -> RawHeaders:
    """The context that the upstream gets."""
    rule = compile_request(
        rules or HeadersConfig(), authority=b"a:80", request_id_header=b"X-Request-ID", tls=False, traces=True
    )
    fields = rule(headers, evolve(HOP) if hop is None else hop)
    return [field for field in fields if field[0].lower().startswith(b"trace")]


@pytest.mark.parametrize(
    "value",
    [
        CONTEXT,
        f"00-{TRACE}-{SPAN}-00".encode(),
        f"00-{TRACE}-{SPAN}-ff".encode(),
        f"cc-{TRACE}-{SPAN}-01".encode(),
        f"01-{TRACE}-{SPAN}-01-what-the-future-brings".encode(),
    ],
)
def test_a_context_goes_on_to_the_byte(value: bytes) -> None:
    """Name, place and tracestate too: the gateway is no span of the trace."""
    hop = evolve(HOP)
    fields = [(b"TraceParent", value), STATE, (b"TRACESTATE", b"b=2")]
    assert sent(fields, hop) == fields
    assert hop.traceparent == value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        CONTEXT + b" ",
        CONTEXT + b"-more",
        CONTEXT.upper(),
        b"0" + CONTEXT,
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"01-{TRACE}-{SPAN}-01what".encode(),
        b"00-\xff" + CONTEXT[4:],
    ],
)
def test_what_is_no_context_ends_here(value: bytes) -> None:
    """A trace begins instead, and the tracestate that belonged to the other is dropped."""
    hop = evolve(HOP)
    ((name, context),) = sent([(b"traceparent", value), STATE], hop)
    assert name == b"traceparent"
    assert context == hop.traceparent != value
    assert context_of([(name, context)]) == context


@pytest.mark.parametrize("headers", [[], [STATE], [(b"traceparent", CONTEXT), (b"Traceparent", CONTEXT)]])
def test_a_trace_begins_where_there_is_none(headers: RawHeaders) -> None:
    """None at all, a state without a parent, or two parents."""
    ((_, context),) = sent(headers)
    assert context != CONTEXT


def test_a_new_context_is_marked_and_unlike_others() -> None:
    """Sampled, version 00, and as good as never the same."""
    made = {new_context() for _ in range(100)}
    assert len({ids_of(context) for context in made}) == 100
    assert all(re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", context) for context in made)


def test_attempts_of_one_request_share_the_trace() -> None:
    """A request that is sent again is the same work."""
    hop = evolve(HOP)
    assert sent([], hop) == sent([], hop)


@pytest.mark.parametrize("how", ["set", "add"])
def test_an_operator_s_own_field_stands(how: str) -> None:
    """A configured traceparent is the only one."""
    rules = HeadersConfig(request=HeaderChanges(**{how: {"Traceparent": "mine"}}))
    assert sent([], rules=rules) == [(b"Traceparent", b"mine")]


def test_without_tracing_the_fields_are_like_any_others() -> None:
    """Nothing is judged, dropped or added."""
    rule = compile_request(HeadersConfig(), authority=b"a:80", request_id_header=b"X-Request-ID", tls=False)
    fields = [(b"traceparent", b"garbage"), STATE]
    assert rule(fields, HOP)[1:3] == fields
    assert not [name for name, _ in rule([], HOP) if name.startswith(b"trace")]


def test_ids() -> None:
    """What a log line says of a context."""
    assert ids_of(CONTEXT) == (TRACE, SPAN)
    assert ids_of(b"") == (None, None)
