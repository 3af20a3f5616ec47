"""The gateway of a soak: as `trio-gateway run` has it, and each second it says what only it knows.

SIGHUP loads the config file again. Statistics go to the file named by SOAK_STATISTICS, a JSON line each.
SIGUSR1 writes down where every task stands, in SOAK_TASKS.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import structlog
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.soaking.standing import standing
from trio_gateway.config.load import load_config
from trio_gateway.observe.accesslog import AccessLog
from trio_gateway.observe.logs import configure
from trio_gateway.supervisor import Gateway

log = structlog.get_logger("trio_gateway.soak")


async def report(gateway: Gateway, access_log: AccessLog, path: Path) -> None:
    """Write a line a second."""
    runtime = gateway.runtime
    await trio.testing.wait_all_tasks_blocked()  # the first line is the baseline
    with path.open("a", buffering=1) as file:
        while True:
            pools = [upstream.pool.statistics() for upstream in runtime.upstreams.values()]
            line = {
                "time": trio.current_time(),
                "tasks": trio.lowlevel.current_statistics().tasks_living,
                "in_flight": len(runtime.in_flight),
                "active": sum(pool.active for pool in pools),
                "waiting": sum(pool.waiting for pool in pools),
                "handler_errors": runtime.metrics.handler_errors,
                "dropped": access_log.dropped,
            }
            file.write(json.dumps(line) + "\n")
            await trio.sleep(1)


async def tell(gateway: Gateway, path: Path) -> None:
    """Write down where everybody stands, at each SIGUSR1."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            replace(path, standing(gateway))


def replace(path: Path, text: str) -> None:
    """Write a file in one step: whoever sees it sees it whole."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


async def reload(gateway: Gateway, path: str) -> None:
    """Apply the file anew at each SIGHUP."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            gateway.runtime.apply(load_config(path).require())


async def serve(path: str, access_log: AccessLog) -> None:
    """Serve until SIGTERM."""
    gateway = Gateway(load_config(path).require(), access_log=access_log)
    async with trio.open_nursery() as beside:
        await beside.start(gateway.stop_on_signals)
        beside.start_soon(reload, gateway, path)
        beside.start_soon(tell, gateway, Path(os.environ["SOAK_TASKS"]))
        async with trio.open_nursery() as serving:
            addresses = await serving.start(gateway.run)
            beside.start_soon(report, gateway, access_log, Path(os.environ["SOAK_STATISTICS"]))
            log.info("ready", addresses=[f"{host}:{port}" for host, port in addresses])
        beside.cancel_scope.cancel()


def main() -> None:
    """Run it."""
    configure("json", "INFO", sys.stderr)
    access_log = AccessLog(1, "json", capacity=65536)
    access_log.start()
    trio.run(serve, sys.argv[sys.argv.index("--config") + 1], access_log)
    access_log.close(10.0)


if __name__ == "__main__":
    main()
