"""The gateway's own log: structured events, one a line, as text for people or JSON for machines.

Each component has a logger of its own (`logger("pool")`) and writes an event and its fields. What the
libraries say through Python's logging, from WARNING on, comes out of the same door. Before a line is
made, one processor passes over every field. It masks secrets, by the name of the field and by the look
of the text, and escapes control characters, so that nothing that came from outside can forge a line or
reach a terminal.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import msgspec
import structlog
from attrs import define, field, frozen
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from trio_gateway.observe.secrets import NAME, PARAMETER

_MASK = "***"
_FIRST = ("time", "level", "logger", "event")
_SECRET_NAME = re.compile(NAME, re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(?:\b(?:bearer|basic|negotiate|ntlm)\s+)(?P<scheme>[\w.~+/=-]+)"
    r"|\b[a-z][a-z0-9+.-]*://(?P<userinfo>[^\s/?#]*)@"
    rf"|{PARAMETER}(?P<query>[^&;#\s]+)"
    r"|\b(?P<jwt>eyJ[\w-]+\.[\w-]+\.[\w-]*)",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)  # and what reorders text
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure(form: Literal["auto", "text", "json"], level: str, stream: TextIO) -> None:
    """Send all logs from `level` on to the stream; may be called again.

    `auto` is text on a terminal, where it has colours, and JSON elsewhere. ValueError for an unknown level.
    """
    set_level(level)
    terminal = stream.isatty()
    as_text = form == "text" or (form == "auto" and terminal)
    structlog.configure(
        processors=_processors(_text_renderer(terminal) if as_text else _json_renderer()),
        logger_factory=lambda name="trio_gateway", *_: _Output(stream, name),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().handlers[:] = [_Bridge()]


def set_level(level: str) -> None:
    """Write from `level` on from now on, whichever loggers exist. ValueError for an unknown level."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is not a log level")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    logging.getLogger().setLevel(max(number, logging.WARNING))


def logger(component: str) -> FilteringBoundLogger:
    """The logger of one part of the gateway. It may be made before `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(component))


def log_unraisable(found: sys.UnraisableHookArgs) -> None:
    """A `sys.unraisablehook`: what no caller can be told stands in the log, and nothing else on our output.

    The `ssl` module complains this way of clients that ask for a server name which is no ASCII; their
    handshakes fail, which is counted, and that is all.
    """
    if not isinstance(found.exc_value, UnicodeDecodeError):
        logger("trio_gateway").warning("an error was ignored", exc_info=found.exc_value)


@define(eq=False)
class SparingLogger:
    """Warnings that peers cause, as often as they like: at most `most` a second, the rest is counted."""

    component: str
    most: int = 10
    _second: int = field(init=False, default=-1)
    _told: int = field(init=False, default=0)
    _left_out: int = field(init=False, default=0)

    def warning(self, event: str, now: float, **fields: object) -> None:
        """Write a line, with the number of those that were left out before it, or leave this one out."""
        if int(now) != self._second:
            self._second, self._told = int(now), 0
        if self._told == self.most:
            self._left_out += 1
            return
        self._told += 1
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        logger(self.component).warning(event, **fields)


def _processors(renderer: Processor) -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        clean,
        renderer,
    ]


def _text_renderer(colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )


def _json_renderer() -> Processor:
    return structlog.processors.JSONRenderer(lambda event, **_: msgspec.json.encode(event).decode())


@frozen
class _Output:
    """Where lines end up. A log that can't be written must not stop the gateway."""

    stream: TextIO
    name: str

    def msg(self, line: str) -> None:
        """Write the line at once."""
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    """Hands the libraries' records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record under its logger's name, at the nearest level below its own."""
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        logger(record.name).log(level, "%s", record.getMessage(), exc_info=record.exc_info)


# ---- cleaning --------------------------------------------------------------------------------------


def clean(output: _Output, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: the fields in a reader's order, without secrets and control characters."""
    event["logger"] = output.name
    names = [*_FIRST, *(name for name in event if name not in _FIRST)]
    return {name: _cleaned(name, event[name]) for name in names if name in event}


def _cleaned(name: object, value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(_text(name)):
        return _MASK
    if isinstance(value, Mapping):
        return {_cleaned("", key): _cleaned(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned_item(item) for item in value]
    control = _CONTROL_BUT_NEWLINE if name == "exception" else _CONTROL
    return control.sub(_escape, _SECRET_TEXT.sub(_masked, _text(value)))


def _cleaned_item(item: object) -> Any:
    """A pair is a header field: its first half names the second."""
    if isinstance(item, tuple) and len(item) == 2:
        return [_cleaned("", item[0]), _cleaned(item[0], item[1])]
    return _cleaned("", item)


def _text(value: object) -> str:
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)


def _masked(found: re.Match[str]) -> str:
    start, end = found.span(found.lastgroup or 0)
    whole, offset = found[0], found.start()
    return whole[: start - offset] + _MASK + whole[end - offset :]


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
