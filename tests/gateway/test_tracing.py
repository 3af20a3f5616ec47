"""Traces through the gateway: what the upstream gets stands in the access line."""

from __future__ import annotations

from tests.support.stage import Door, recording
from tests.support.upstream import Received

CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_trace_goes_through(door: Door) -> None:
    """The context of a request reaches the upstream unchanged, and its access line."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        await stage.get("", f"traceparent: {CONTEXT}", "tracestate: congo=t61rcWkgMzE")
        (line,) = await stage.lines()
    assert seen[0].values(b"traceparent") == [CONTEXT.encode()]
    assert seen[0].values(b"tracestate") == [b"congo=t61rcWkgMzE"]
    assert line.traceparent == CONTEXT.encode()


async def test_a_trace_begins_here(door: Door) -> None:
    """A request without a context gets one, the same upstream and in the access line."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        await stage.get()
        (line,) = await stage.lines()
    assert seen[0].values(b"traceparent") == [line.traceparent]


async def test_a_refused_request_names_its_trace(door: Door) -> None:
    """What never reached an upstream began no trace, but the caller's own is in the line."""
    async with door.stage(endpoint={"disabled": True}) as stage:
        assert (await stage.get("", f"traceparent: {CONTEXT}")).status == 503
        assert (await stage.get()).status == 503
        lines = await stage.lines()
    assert [line.traceparent for line in lines] == [CONTEXT.encode(), b""]


async def test_tracing_can_be_off(door: Door) -> None:
    """With `traceparent: false` nothing is added, and what comes passes."""
    seen: list[Received] = []
    async with door.stage(recording(seen), tracing={"traceparent": False}) as stage:
        await stage.get()
        await stage.get("", "traceparent: mine")
    assert [received.values(b"traceparent") for received in seen] == [[], [b"mine"]]
