"""Long runs against one gateway process, on loopback: what only shows after many requests.

    python bench/soak.py [SECTION ...] [options, see --help]

Without a name all of them run. Each prints what it measured; the exit code is 1 when something was wrong.

storms    a whole gateway in virtual time, a seed each: tiny pools, clients, backends and reloads at random,
          cancellations between any two steps; nothing hangs, nothing is left (5 minutes)
pairing   64 clients through both doors, numbers in head and body, random departures, replays, stale closes,
          truncations: no reply ever meets another request (100 000 requests)
streams   a GiB up and down through both doors: memory grows by less than 8 MiB, no byte changes
clients   500 kept connections: no error, and a rate no lower than with 32 minus a fifth
slow      1 000 connections of clients that take as long as they are let, in any part of an exchange:
          16 good clients beside them keep a p99 below 50 ms, and none of their requests fails
stalls    metrics read, 1 000 endpoints reloaded, 50 registered: no turn of the event loop beyond 30 ms,
          proxied p99 below 20 ms, a reload within 100 ms
mixed     the same talk as `pairing` for a million requests, with drips, slow readers, WebSockets and reloads
          beside it: slopes of memory, descriptors and tasks, one access line a request, no unexpected 5xx
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.soaking.crowd import crowd
from bench.soaking.large import stream
from bench.soaking.slow import slow
from bench.soaking.stalls import stalls
from bench.soaking.storms import storms
from bench.soaking.talking import talk

SECTIONS = ("storms", "pairing", "streams", "clients", "slow", "stalls", "mixed")
_SHOWN = 20


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--requests", type=int, help="of pairing and mixed (default 100 000 and 1 000 000)")
    parser.add_argument("--minutes", type=float, help="end storms, pairing and mixed after so long")
    parser.add_argument("--rate", type=float, default=0, help="of pairing and mixed, a second (default: all)")
    parser.add_argument("--clients", type=int, default=64, help="of pairing and mixed (default 64)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="of each stream (default 1024)")
    parser.add_argument(
        "--seconds", type=int, default=5, help="of each round of clients and slow (default 5)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of storms, pairing and mixed")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def section(name: str, options: argparse.Namespace) -> Callable[[], Awaitable[list[str]]]:
    """What runs a section; it returns what was wrong."""
    if name == "storms":
        return partial(storms, options.seed, options.minutes)
    if name == "streams":
        return partial(stream, options.mebibytes * 2**20)
    if name == "clients":
        return partial(crowd, options.seconds)
    if name == "slow":
        return partial(slow, options.seconds)
    if name == "stalls":
        return stalls
    requests = options.requests or (1_000_000 if name == "mixed" else 100_000)
    return partial(
        talk,
        requests,
        options.clients,
        options.seed,
        mixed=name == "mixed",
        minutes=options.minutes,
        rate=options.rate,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections; the exit code."""
    options = arguments(argv)
    bad = 0
    for name in options.sections or SECTIONS:
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        wrong = trio.run(section(name, options))
        for line in wrong[:_SHOWN]:
            print(f"  WRONG: {line}")
        bad += len(wrong)
        print(f"  {len(wrong)} wrong, {time.perf_counter() - began:.0f} s", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
