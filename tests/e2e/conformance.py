"""Plays kosoku's cases against a WebSocket server and prints how many ran and which failed, as JSON.

`python conformance.py URL PATTERN... [-PATTERN...]`; a pattern with a minus leaves cases out.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient

CONCURRENCY = 16


async def play(url: str, cases: list[str], but: list[str]) -> dict[str, object]:
    """How many cases were played, and the ids of those that failed."""
    try:
        results = await run_fuzzingclient(url, cases, but, CONCURRENCY)
    except FailureError as failure:
        results = failure.results
    return {"played": len(results), "failed": [result.case_id for result in results if not result.passed]}


if __name__ == "__main__":
    url, *patterns = sys.argv[1:]
    wanted = [pattern for pattern in patterns if not pattern.startswith("-")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("-")]
    print(json.dumps(asyncio.run(play(url, wanted, unwanted))), flush=True)
    os._exit(0)  # kosoku's threads sometimes abort an interpreter that ends in order
