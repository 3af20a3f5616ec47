"""The access log: what a line says, and that no output can hold up or hurt the event loop."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.observe.accesslog import AccessLog, LineFormatter, Record

VALUES: dict[str, Any] = {
    "time": 1709210096.0789,
    "request_id": b"6f1c",
    "client": b"10.0.0.7",
    "method": b"GET",
    "target": b"/orchestrator/users/42?page=2",
    "http_version": b"1.1",
    "endpoint": "users",
    "upstream": b"http://127.0.0.1:9000",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 512,
    "duration": 0.01234567,
    "attempts": 1,
    "reason": "completed",
    "door": "lane",
    "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "cause": None,
}
IDS = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
FIELDS = [*list(VALUES)[:-2], *IDS]


def record(**changes: Any) -> Record:
    return tuple((VALUES | changes).values())  # type: ignore[return-value]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield path, fd
    os.close(fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with suppress(OSError):  # a test may have closed its end
            os.close(end)


def parsed(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(LineFormatter().json(record(**changes)))
    return content


# ---- lines -------------------------------------------------------------------------------------------


def test_a_json_line_has_every_field() -> None:
    """All fields in order, times in UTC with milliseconds, seconds with six digits."""
    values = VALUES | IDS
    plain = {
        name: values[name].decode() if isinstance(values[name], bytes) else values[name] for name in FIELDS
    }
    assert parsed() == plain | {"time": "2024-02-29T12:34:56.078Z", "duration": 0.012346}
    assert list(parsed()) == FIELDS


def test_a_text_line_reads_like_a_common_log() -> None:
    """Time, client, quoted request, status, bytes, duration, why it ended, then the rest by name."""
    assert LineFormatter().text(record()).decode() == (
        '2024-02-29T12:34:56.078Z 10.0.0.7 "GET /orchestrator/users/42?page=2 HTTP/1.1" 200 512 0.012s '
        "completed in=0 attempts=1 door=lane endpoint=users upstream=http://127.0.0.1:9000 "
        'id="6f1c" trace=4bf92f3577b34da6a3ce929d0e0e4736\n'
    )


def test_what_is_unknown_is_said_so() -> None:
    """A request without endpoint, upstream or trace has null in JSON and a dash in text."""
    assert parsed(traceparent=b"") | {"trace_id": None, "span_id": None} == parsed(traceparent=b"")
    assert LineFormatter().text(record(traceparent=b"")).endswith(b'" trace=-\n')
    assert parsed(endpoint=None, upstream=None)["endpoint"] is None
    assert b"endpoint=- upstream=- " in LineFormatter().text(record(endpoint=None, upstream=None))


def test_what_lies_behind_an_error_is_said() -> None:
    """The cause comes last, and only where there is one."""
    known = {"reason": "connect_failed", "cause": '[Errno 111] "no"\n'}
    assert list(parsed(**known).items())[-1] == ("cause", '[Errno 111] "no"\n')
    assert LineFormatter().text(record(**known)).endswith(b' cause="[Errno 111] \\x22no\\x22\\x0a"\n')
    for nothing in (None, ""):
        assert "cause" not in parsed(cause=nothing)
        assert b"cause" not in LineFormatter().text(record(cause=nothing))


def test_seconds_are_not_mixed_up() -> None:
    """Each line has its own second, also when the clock was set back."""
    formatter = LineFormatter()
    seconds = [1709210096.5, 1709210097.0, 1709210096.125, 0.0]
    assert [formatter.timestamp(second)[14:] for second in seconds] == [
        "34:56.500Z",
        "34:57.000Z",
        "34:56.125Z",
        "00:00.000Z",
    ]


HOSTILE = st.binary(max_size=40)


@given(HOSTILE, HOSTILE, HOSTILE, st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_nobody_can_forge_a_line(
    target: bytes, request_id: bytes, method: bytes, client: str, cause: str
) -> None:
    """Whatever bytes come, a line is one line of printable ASCII, and quotes stay closed."""
    hostile = record(target=target, request_id=request_id, method=method, client=client, cause=cause)
    for line in (LineFormatter().json(hostile), LineFormatter().text(hostile)):
        assert line.endswith(b"\n")
        assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert list(json.loads(LineFormatter().json(hostile))) == [*FIELDS, "cause"]
    assert LineFormatter().text(hostile).replace(b"\\x22", b"").count(b'"') == 6


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (b"http://user:secret@host/x", "http://***@host/x"),
        (b"/cb?access_token=abc&x=1", "/cb?access_token=***&x=1"),
        (b"/users/me@example.com?q=token", "/users/me@example.com?q=token"),
    ],
)
def test_secrets_in_urls_are_masked(url: bytes, shown: str) -> None:
    """Userinfo and tokens never reach the log; what looks like neither does."""
    assert (parsed(target=url)["target"], parsed(upstream=url)["upstream"]) == (shown, shown)


# ---- the queue ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_are_written_in_order(output: tuple[Path, int], form: Any) -> None:
    """All lines come out, whole and in order."""
    path, fd = output
    log = AccessLog(fd, form)
    for number in range(1000):
        log.log(record(target=b"/%d." % number))
    assert path.read_bytes() == b""
    log.drain()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1000
    assert all(b"/%d." % number in line for number, line in enumerate(lines))
    assert log.dropped == 0


def test_a_full_queue_drops_and_counts(output: tuple[Path, int]) -> None:
    """Beyond the capacity the newest lines are lost, and it is said how many."""
    path, fd = output
    log = AccessLog(fd, capacity=10)
    for number in range(15):
        log.log(record(status=200 + number))
    assert log.dropped == 5
    log.drain()
    assert [json.loads(line)["status"] for line in path.read_bytes().splitlines()] == list(range(200, 210))
    log.log(record())
    assert log.dropped == 5


def test_a_record_that_is_none_is_lost_alone(output: tuple[Path, int]) -> None:
    """A tuple that can't be a line is counted, and its neighbours are written."""
    path, fd = output
    log = AccessLog(fd)
    for item in (record(), (1, 2), record(time=float("nan")), record(target=3), record()):
        log.log(item)  # type: ignore[arg-type]
    log.drain()
    assert (len(path.read_bytes().splitlines()), log.dropped) == (2, 3)


def test_drain_pauses_between_slices(output: tuple[Path, int]) -> None:
    """The loop's thread gets a chance at least every 64 lines; a queue that is behind takes larger slices."""
    _, fd = output
    written: list[int] = []
    log = AccessLog(fd, capacity=1000)
    for _ in range(700):
        log.log(record())
    log.drain(lambda: written.append(len(log._queue)))
    assert written == [444, 380, 316, 252, 188, 124, 60, 0]


# ---- broken outputs ----------------------------------------------------------------------------------


def test_a_reader_that_left_costs_lines_only(pipe: tuple[int, int]) -> None:
    """EPIPE is counted line by line and raised nowhere."""
    reader, writer = pipe
    os.close(reader)
    log = AccessLog(writer)
    for _ in range(100):
        log.log(record())
    log.drain()
    assert log.dropped == 100


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
def test_a_full_disk_costs_lines_only() -> None:
    """ENOSPC is counted, and the log goes on."""
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = AccessLog(fd)
        log.log(record())
        log.drain()
        assert log.dropped == 1
    finally:
        os.close(fd)


def test_a_torn_line_is_ended_before_the_next(
    output: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a disk fills up inside a line, that line is lost, and later ones start on their own."""
    path, fd = output
    log = AccessLog(fd)
    room = [len(LineFormatter().json(record())) + 5]
    write = os.write

    def until_full(fd: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space")
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", until_full)
    for _ in range(3):
        log.log(record())
    log.drain()
    assert log.dropped == 2
    room[0] = 10_000
    log.log(record(status=299))
    log.drain()
    whole, torn, last = path.read_bytes().splitlines()
    assert json.loads(whole)["status"] == 200
    assert len(torn) == 5
    assert json.loads(last)["status"] == 299
    assert log.dropped == 2


# ---- the thread --------------------------------------------------------------------------------------


def test_the_thread_writes_and_close_flushes(output: tuple[Path, int]) -> None:
    """Started, it writes by itself; close hands over what is left and ends the thread."""
    path, fd = output
    log = AccessLog(fd)
    log.start()
    for _ in range(500):
        log.log(record())
    assert log.close(5.0)
    assert len(path.read_bytes().splitlines()) == 500
    assert not any(thread.name == "access-log" for thread in threading.enumerate())
    log.log(record())
    assert log.dropped == 1


def test_close_without_a_thread_writes_what_is_queued(output: tuple[Path, int]) -> None:
    """Where no thread may run, close drains on the caller's."""
    path, fd = output
    log = AccessLog(fd)
    log.log(record())
    assert log.close(0.0)
    assert len(path.read_bytes().splitlines()) == 1


def test_a_half_full_queue_wakes_the_writer(pipe: tuple[int, int]) -> None:
    """The writer does not wait for its timer when lines come fast."""
    log = AccessLog(pipe[1], capacity=4)
    for _ in range(2):
        log.log(record())
    assert not log._wake.is_set()
    log.log(record())
    assert log._wake.is_set()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_stalled_output_blocks_nobody(pipe: tuple[int, int], blocking: bool) -> None:
    """While nobody reads, logging goes on and drops; close gives up in time; later the rest comes out."""
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    log = AccessLog(writer, capacity=2000)
    log.start()
    for _ in range(5000):
        log.log(record())
    assert not log.close(0.05)
    dropped = log.dropped
    assert dropped > 0
    thread = log._thread
    assert thread is not None
    taken = bytearray()
    while thread.is_alive() or len(taken) == 0:
        taken += os.read(reader, 1 << 16)
        thread.join(0.001)
    os.close(writer)
    while chunk := os.read(reader, 1 << 16):
        taken += chunk
    assert all(json.loads(line)["status"] == 200 for line in taken.splitlines())
