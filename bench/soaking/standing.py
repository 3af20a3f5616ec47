"""Where every task of a Trio program stands: what tells a hang from a wait."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import trio

from trio_gateway.proxy.exchange import Exchange
from trio_gateway.supervisor import Gateway


def standing(gateway: Gateway) -> str:
    """All exchanges in flight, then all tasks with their stacks, outermost first."""
    exchanges = [_exchange(each) for each in gateway.runtime.in_flight]
    root = trio.lowlevel.current_root_task()
    tasks = [] if root is None else list(_tasks(root, ""))
    pools = [f"{id_}: {upstream.pool}" for id_, upstream in gateway.runtime.upstreams.items()]
    return "\n".join([*exchanges, *pools, *tasks, ""])


def _exchange(exchange: Exchange) -> str:
    now = trio.current_time()
    name = exchange.hop.request_id.decode("latin-1")
    return (
        f"{name}: {now - exchange.started:.3f} s old, {exchange.waiting.name}, "
        f"{exchange.deadline - now} s left, {exchange.door}, error {exchange.error!r}, "
        f"committed {exchange.committed}, "
        f"body {exchange.body.received} (complete {exchange.body.complete}), sent {exchange.writer.sent}, "
        f"uploading {exchange.uploading}, attempts {exchange.attempts}"
    )


def _tasks(task: trio.lowlevel.Task, indent: str) -> Iterator[str]:
    yield f"{indent}{task.name}"
    frames = traceback.StackSummary.extract((frame, line) for frame, line in task.iter_await_frames())
    for frame in frames:
        yield f"{indent}  {frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}: {frame.line}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child, indent + "    ")
