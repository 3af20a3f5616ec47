"""The process's own numbers."""

from __future__ import annotations

import os
import time

from tests.observe.scrape import families
from trio_gateway.observe.process import process_families


def numbers() -> dict[str, float]:
    read = families("".join(process_families()).encode())
    return {sample.name: sample.value for family in read for sample in family.samples}


def test_what_dashboards_look_for() -> None:
    """CPU, memory, descriptors, start time and garbage collections, under the usual names."""
    read = numbers()
    assert 0 < read["process_cpu_seconds_total"] <= sum(os.times()[:2]) + 1
    assert 2**20 < read["process_resident_memory_bytes"] < read["process_virtual_memory_bytes"]
    assert 0 < read["process_open_fds"] < read["process_max_fds"]
    assert time.time() - 86_400 < read["process_start_time_seconds"] <= time.time() + 1
    assert read["python_gc_collections_total"] >= 0
    assert read["python_info"] == 1


def test_descriptors_are_counted_now() -> None:
    """One more open file is one more descriptor."""
    before = numbers()["process_open_fds"]
    with open(os.devnull):
        assert numbers()["process_open_fds"] == before + 1
