"""One line per finished request, without the event loop ever formatting or writing one.

The request path appends a plain tuple to a bounded queue. A writer thread wakes by a timer, or when
the queue is half full, formats in slices and writes each slice with one call; between slices it gives
the interpreter back, so that the loop waits for one slice at most. Whatever the output does (a stalled
pipe, a full disk, a reader that left), the loop never waits for it: the queue fills, and what is lost is
counted.

The output is a file descriptor written past all of Python's buffers, since a buffered stream's lock would
tie the loop's own log lines to a stalled access log.

Clients choose much of what stands in a line. Nothing of theirs can end it or reach a terminal: control
characters and bytes beyond ASCII are escaped, and what looks like a secret in a url is masked.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import msgspec
from attrs import define, field

from trio_gateway.domain.trace import ids_of
from trio_gateway.observe.secrets import masked_url

Text = bytes | str | None

#: Wall time (Unix seconds), request id, client, method, raw target, HTTP version, endpoint id, upstream
#: target, status, body bytes in and out, duration in seconds, attempts, why it ended, "lane" or "quart",
#: the request's `traceparent` (b"" for none), what lies behind the reason where more is known.
Record = tuple[
    float, Text, Text, Text, Text, Text, Text, Text, int, int, int, float, int, str, str, bytes, str | None
]

_SLICE: Final = 64  # lines: 0.2 ms of the loop's time at most
_LARGE_SLICE: Final = 256  # while half of the queue or more is waiting: late is better than lost
_INTERVAL: Final = 0.1  # seconds between two looks at the queue
_PAUSE: Final = 0.0005  # seconds; sleep(0) is over before the loop's thread has woken up
_MILLISECONDS: Final = tuple(f".{number:03d}Z" for number in range(1000))
_UNSAFE_IN_QUOTES = re.compile(r'[\x00-\x1f"\\\x7f]')


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
    """The fields of a JSON line, in order."""

    time: str
    request_id: str | None
    client: str | None
    method: str | None
    target: str | None
    http_version: str | None
    endpoint: str | None
    upstream: str | None
    status: int
    bytes_in: int
    bytes_out: int
    duration: float
    attempts: int
    reason: str
    door: str
    trace_id: str | None
    span_id: str | None
    cause: str | None = None


def _text(value: Text) -> str | None:
    """ASCII text; other bytes become backslash escapes. Control characters are the format's business."""
    if value.__class__ is bytes:
        return value.decode() if value.isascii() else value.decode("ascii", "backslashreplace")
    if value is None or value.isascii():
        return value  # type: ignore[return-value]
    return value.encode("ascii", "backslashreplace").decode()  # type: ignore[union-attr]


def _url(value: Text) -> str | None:
    text = _text(value)
    return None if text is None else masked_url(text)


def _quoted(value: str | None) -> str:
    """Text that can stand inside quotes, or between spaces when it has none of its own."""
    if value is None:
        return "-"
    return _UNSAFE_IN_QUOTES.sub(lambda found: f"\\x{ord(found[0]):02x}", value)


@define(eq=False)
class LineFormatter:
    """Makes lines of records. Most lines share a second, so its text is made once."""

    _second: tuple[int, str] = field(init=False, default=(-1, ""))
    _encode: Callable[[object], bytes] = field(init=False, factory=lambda: msgspec.json.Encoder().encode)

    def timestamp(self, wall_time: float) -> str:
        """RFC 3339 UTC with milliseconds."""
        second = int(wall_time)
        known, prefix = self._second
        if known != second:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, prefix)
        return prefix + _MILLISECONDS[int((wall_time - second) * 1000)]

    def json(self, record: Record) -> bytes:
        """One JSON object and a newline."""
        (when, request_id, client, method, target, version, endpoint, upstream,
         status, bytes_in, bytes_out, duration, attempts, reason, door, context, cause) = record  # fmt: skip
        trace_id, span_id = ids_of(context)
        line = _Line(
            self.timestamp(when),
            _text(request_id),
            _text(client),
            _text(method),
            _url(target),
            _text(version),
            _text(endpoint),
            _url(upstream),
            status,
            bytes_in,
            bytes_out,
            int(duration * 1_000_000 + 0.5) / 1_000_000,  # rounding costs ten times as much
            attempts,
            reason,
            door,
            trace_id,
            span_id,
            _text(cause) or None,
        )
        data = self._encode(line)
        return data.replace(b"\x7f", b"\\u007f") + b"\n" if b"\x7f" in data else data + b"\n"

    def text(self, record: Record) -> bytes:
        """A line for people: client, request, status, bytes and time first, as in the common log formats."""
        (when, request_id, client, method, target, version, endpoint, upstream,
         status, bytes_in, bytes_out, duration, attempts, reason, door, context, cause) = record  # fmt: skip
        line = (
            f"{self.timestamp(when)} {_quoted(_text(client))} "
            f'"{_quoted(_text(method))} {_quoted(_url(target))} HTTP/{_quoted(_text(version))}" '
            f"{status} {bytes_out} {duration:.3f}s {reason} in={bytes_in} attempts={attempts} door={door} "
            f"endpoint={_quoted(_text(endpoint))} upstream={_quoted(_url(upstream))} "
            f'id="{_quoted(_text(request_id))}" trace={_quoted(ids_of(context)[0])}'
        )
        return (f'{line} cause="{_quoted(_text(cause))}"\n' if cause else f"{line}\n").encode("ascii")


@define(eq=False)
class AccessLog:
    """Writes a line per record to a file descriptor, which stays the caller's to close.

    `log` may be called from one thread, the event loop's, from the start on; `start` begins writing.
    """

    fd: int
    format: Literal["text", "json"] = "json"
    capacity: int = 8192
    _queue: deque[Record] = field(init=False, factory=deque, repr=False)
    _line: Callable[[Record], bytes] = field(init=False, repr=False)
    _thread: threading.Thread | None = field(init=False, default=None, repr=False)
    _wake: threading.Event = field(init=False, factory=threading.Event, repr=False)
    _stopping: bool = field(init=False, default=False)
    _overflowed: int = field(init=False, default=0)  # counted by the loop
    _lost: int = field(init=False, default=0)  # counted by the writer
    _torn: bool = field(init=False, default=False)  # the output ends inside a line

    def __attrs_post_init__(self) -> None:
        formatter = LineFormatter()
        self._line = formatter.json if self.format == "json" else formatter.text

    @property
    def dropped(self) -> int:
        """Lines lost so far: the queue was full, or the output did not take them."""
        return self._overflowed + self._lost

    def log(self, record: Record) -> None:
        """Queue a line; never blocks, never raises."""
        waiting = len(self._queue)
        if waiting >= self.capacity:
            self._overflowed += 1
            return
        self._queue.append(record)
        if waiting == self.capacity // 2:
            self._wake.set()

    def start(self) -> None:
        """Start the writer thread."""
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is queued, waiting `timeout` seconds at most; whether all of it was handed over.

        Blocks the calling thread. Lines that are still queued then, or come later, count as dropped.
        """
        self.capacity = 0
        self._stopping = True
        if self._thread is None:
            self.drain()
        else:
            self._wake.set()
            self._thread.join(timeout)
        left = len(self._queue)
        self._overflowed += left
        return left == 0 and (self._thread is None or not self._thread.is_alive())

    def drain(self, pause: Callable[[], object] = lambda: None) -> None:
        """Write all that is queued on the calling thread, with a pause after each slice."""
        queue = self._queue
        while queue:
            size = _SLICE if 2 * len(queue) < self.capacity else _LARGE_SLICE
            records = [queue.popleft() for _ in range(min(size, len(queue)))]
            self._write([line for line in map(self._formatted, records) if line])
            pause()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            self.drain(lambda: time.sleep(_PAUSE))
        self.drain()

    def _formatted(self, record: Record) -> bytes:
        try:
            return self._line(record)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, OSError):
            self._lost += 1  # a record that is no record must not end the thread
            return b""

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        rest = memoryview(b"\n" + data if self._torn else data)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError:
            self._count_lost(data, len(rest))
        else:
            self._torn = False

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:  # somebody who shares the descriptor made it non-blocking
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll()
            return 0

    def _count_lost(self, data: bytes, unwritten: int) -> None:
        """Count the lines that are not out as a whole; a torn one is ended before the next slice."""
        self._lost += data.count(b"\n", max(0, len(data) - unwritten))
        if unwritten < len(data):
            self._torn = data[len(data) - unwritten - 1] != ord("\n")
