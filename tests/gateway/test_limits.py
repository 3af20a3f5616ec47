"""Every size that a client chooses has a limit, and every limit an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio

from tests.support.client import Answer
from tests.support.doors import push
from tests.support.faults import fault
from tests.support.stage import USERS, Door, recording
from tests.support.upstream import Received, Wire

# ---- heads --------------------------------------------------------------------------------------------


@fault("L7")
@pytest.mark.parametrize(("length", "status"), [(8192, 200), (8193, 414), (20_000, 414)])
async def test_targets_have_a_limit(door: Door, length: int, status: int) -> None:
    """`limits.target` bytes pass, one more is 414."""
    seen: list[Received] = []
    async with door.stage(recording(seen)) as stage:
        target = USERS + "/" + "x" * (length - len(USERS) - 1)
        assert (await stage.fetch("GET", target)).status == status
        assert len(seen) == (status == 200)


@fault("L7")
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["X: " + "x" * 31_000], 200),
        (["X: " + "x" * 33_000], 431),
        (["X: " + "x" * 64_000], 431),
        (["X: 1"] * 90, 200),
        (["X: 1"] * 101, 431),
        (["X: 1"] * 1000, 431),
    ],
)
async def test_heads_have_limits(door: Door, fields: list[str], status: int) -> None:
    """`limits.head` bytes and `limits.fields` fields: more is 431, and nothing is forwarded."""
    async with door.stage() as stage:
        assert (await stage.get("", *fields)).status == status
        assert stage.backend.connections == (status == 200)


async def test_the_limits_are_configured(door: Door) -> None:
    """Smaller ones bind, too."""
    limits = {"target": 30, "head": 400, "fields": 5}
    async with door.stage(server={"limits": limits}) as stage:
        assert (await stage.get("/" + "x" * 20)).status == 414
        assert (await stage.get("", "X: " + "x" * 400)).status == 431
        assert (await stage.get("", *["X: 1"] * 6)).status == 431
        assert (await stage.get("", "X: 1")).status == 200


# ---- bodies -------------------------------------------------------------------------------------------

BODY_LIMITS: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
    ({"max_body_bytes": 1000}, {}),
    ({}, {"limits": {"body": 1000}}),
    ({"max_body_bytes": 1000}, {"limits": {"body": 5000}}),
    ({"max_body_bytes": 5000}, {"limits": {"body": 1000}}),
]


@pytest.mark.parametrize(("endpoint", "server"), BODY_LIMITS)
async def test_bodies_have_a_limit(
    door: Door, endpoint: Mapping[str, Any], server: Mapping[str, Any]
) -> None:
    """The smaller of the endpoint's and the server's: so many bytes pass, one more is 413."""
    seen: list[Received] = []
    async with door.stage(recording(seen), endpoint, server=server) as stage:
        assert (await stage.post(b"x" * 1000)).status == 200
        assert (await stage.post(b"x" * 1001)).status == 413
        call = await stage.open("POST", USERS, length=1001)
        assert (await call.answer()).status == 413
        assert len(seen) == 1


@pytest.mark.parametrize("pause", [0.0, 1.0], ids=["at once", "in pieces"])
async def test_a_body_of_unknown_length_is_counted(door: Door, pause: float) -> None:
    """The byte that is too many ends it: 413, an abort for the backend, and nobody's failure."""
    ends: list[bool] = []

    async def reading(wire: Wire) -> None:
        head = await wire.head()
        try:
            await wire.body(head)
        finally:
            ends.append(head.complete)

    async with door.stage(reading, {"max_body_bytes": 1000}) as stage:
        call = await stage.open("POST", USERS, stream=True)
        stage.nursery.start_soon(push, call, b"x" * 300, 4, pause)
        assert (await call.answer()).status == 413
        assert await stage.reasons() == ["payload_too_large"]
        await trio.sleep(3)
        assert True not in ends
        assert stage.target().breaker.failure_count == 0


async def test_a_body_of_unknown_length_may_reach_its_limit(door: Door) -> None:
    """Exactly so many bytes pass."""
    seen: list[Received] = []
    async with door.stage(recording(seen), {"max_body_bytes": 1000}) as stage:
        call = await stage.open("POST", USERS, stream=True)
        for _ in range(2):
            await call.send(b"x" * 500)
            await trio.sleep(1)
        await call.end()
        assert (await call.answer()).status == 200
        assert len(seen[0].body) == 1000


async def test_an_answer_to_an_unread_body_survives(door: Door) -> None:
    """A client that sends on meanwhile reads the whole 413, and not a reset."""
    async with door.stage(endpoint={"max_body_bytes": 10}) as stage:
        call = await stage.open("POST", USERS, length=200_000)
        await push(call, b"x" * 20_000, 10)
        answer = await call.answer()
        assert answer.status == 413
        assert answer.value("content-length") == str(len(answer.body))


# ---- connections --------------------------------------------------------------------------------------


async def test_a_connection_carries_so_many_requests(door: Door) -> None:
    """`requests_per_connection`: the last one is answered, with the end of the connection announced."""
    async with door.stage(server={"limits": {"requests_per_connection": 3}}) as stage:
        caller = await stage.connect()
        answers = [await caller.fetch("GET", USERS) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        with trio.fail_after(5):
            await caller.closed()
        if door.name == "lane":
            assert [_closes(answer) for answer in answers] == [False, False, True]
        assert stage.gateway.runtime.metrics.connections_used_up == 1


def _closes(answer: Answer) -> bool:
    return answer.values("connection") == ["close"]


@pytest.mark.parametrize("waiting", [100])
async def test_streams_of_a_connection_have_a_limit(h2: Door, waiting: int) -> None:
    """A hundred at once are served together."""
    async with h2.stage() as stage:
        caller = await stage.connect()
        calls = [await caller.open("GET", USERS) for _ in range(waiting)]
        assert {(await call.answer()).status for call in calls} == {200}
