"""The log: its two shapes, its levels, and that neither secrets nor control characters get through."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from trio_gateway.observe.logs import SparingLogger, configure, log_unraisable, logger, set_level

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is global: leave it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(event: str = "something happened", **fields: Any) -> dict[str, Any]:
    stream = StringIO()
    configure("json", "debug", stream)
    logger("pool").info(event, **fields)
    content: dict[str, Any] = json.loads(stream.getvalue())
    return content


# ---- shape -------------------------------------------------------------------------------------------


def test_a_json_line_begins_with_when_how_bad_who_and_what() -> None:
    """Time in UTC, level, logger and event come first, the fields behind them."""
    line = logged(target="http://a", count=3, ratio=0.5, ok=True, nothing=None)
    assert list(line)[:4] == ["time", "level", "logger", "event"]
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "pool",
        "event": "something happened",
        "target": "http://a",
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "nothing": None,
    }


@pytest.mark.parametrize(
    ("form", "stream", "is_json", "has_colours"),
    [
        ("auto", StringIO(), True, False),
        ("auto", Terminal(), False, True),
        ("text", StringIO(), False, False),
        ("json", Terminal(), True, False),
    ],
)
def test_the_form_follows_the_stream(form: Any, stream: StringIO, is_json: bool, has_colours: bool) -> None:
    """`auto` is coloured text on a terminal and JSON elsewhere; the others are what they say."""
    configure(form, "info", stream)
    logger("pool").info("started", size=3)
    line = stream.getvalue()
    assert (line.startswith("{"), "\x1b[" in line) == (is_json, has_colours)
    assert all(word in line for word in ("pool", "started", "size"))
    assert line.count("\n") == 1


def test_levels() -> None:
    """Below the level nothing is written; it can be changed for loggers that exist, our own and others'."""
    stream, log, library = StringIO(), logger("pool"), logging.getLogger("library")
    configure("json", "WARNING", stream)
    log.info("no")
    log.warning("yes")
    set_level("debug")
    log.debug("also")
    set_level("ERROR")
    log.warning("no")
    library.warning("no")
    events = [
        (json.loads(line)["level"], json.loads(line)["event"]) for line in stream.getvalue().splitlines()
    ]
    assert events == [("warning", "yes"), ("debug", "also")]


def test_an_unknown_level_is_an_error() -> None:
    """A level that does not exist is named, and the one in force stays."""
    stream = StringIO()
    configure("json", "info", stream)
    with pytest.raises(ValueError, match="'loud' is not a log level"):
        set_level("loud")
    with pytest.raises(ValueError, match="'loud' is not a log level"):
        configure("json", "loud", StringIO())
    logger("pool").info("heard")
    assert "heard" in stream.getvalue()


def test_exceptions_keep_their_lines() -> None:
    """A traceback is one field; in text its lines stay lines."""
    stream = StringIO()
    configure("text", "info", stream)
    logger("pool").error("failed", exc_info=RuntimeError("bad\x1b[31m"))
    assert stream.getvalue().splitlines()[-1] == "RuntimeError: bad\\x1b[31m"
    assert "\x1b" not in stream.getvalue()


def test_libraries_are_heard_from_warning_on() -> None:
    """Python's logging comes out as the same lines, at a level that we know."""
    stream = StringIO()
    configure("json", "debug", stream)
    library = logging.getLogger("library.part")
    library.info("chatter")
    library.log(35, "100%% of %s failed: %s", 3, "Bearer abc")
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["level"], line["event"]) == (
        "library.part",
        "warning",
        "100% of 3 failed: Bearer ***",
    )


def test_a_log_that_can_not_be_written_stops_nobody() -> None:
    """A closed or full stream loses lines and raises nothing."""
    stream = StringIO()
    configure("json", "info", stream)
    stream.close()
    logger("pool").info("lost")
    configure("json", "info", later := StringIO())
    logger("pool").info("kept")
    assert json.loads(later.getvalue())["event"] == "kept"


# ---- cleaning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["Authorization", "proxy_authorization", "cookie", "Set-Cookie", "token", "client_secret", "X-API-Key"],
)
def test_secrets_are_masked_by_name(name: str) -> None:
    """A field of such a name is masked, at the top, in a mapping, and in a list of header fields."""
    line = logged(**{name: "s3cret"}, headers={name: b"s3cret"}, raw=[(name.encode(), b"s3cret"), ("a", "b")])
    assert "s3cret" not in json.dumps(line)
    assert line["raw"] == [[name, "***"], ["a", "b"]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sent bearer abc.def-ghi= upstream", "sent bearer *** upstream"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("GET https://user:p@ss@host/x@y?a=b", "GET https://***@host/x@y?a=b"),
        ("/cb?access_token=abc&x=1;api_key=def#f", "/cb?access_token=***&x=1;api_key=***#f"),
        ("GET /o?X-Amz-Signature=ab&sig=c d", "GET /o?X-Amz-Signature=***&sig=*** d"),
        (f"got {JWT}!", "got ***!"),
        ("mail me@host about basics", "mail me@host about basics"),
    ],
)
def test_secrets_are_masked_by_their_look(text: str, shown: str) -> None:
    """Credentials inside a text are masked, wherever the text stands; other text is left alone."""
    line = logged(text, detail=text, more=[{"deep": text.encode()}], error=RuntimeError(text))
    assert (line["event"], line["detail"], line["error"]) == (shown, shown, shown)
    assert line["more"] == [{"deep": shown}]


@given(st.text(st.characters(codec=None, exclude_categories=())), st.binary())
def test_a_line_is_one_line(text: str, raw: bytes) -> None:
    """Whatever stands in a field, the line has no control character but its end, in both forms."""
    for form in ("json", "text"):
        stream = StringIO()
        configure(form, "info", stream)  # type: ignore[arg-type]
        logger("pool").info(text, field=text, raw=raw, names={text: raw})
        line = stream.getvalue()
        assert line.endswith("\n")
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202e" for c in line[:-1])


def test_what_nobody_can_be_told_is_one_event() -> None:
    """But for a server name that no client should ask for, which is that client's own trouble."""
    with capture_logs() as lines:
        for error in (ZeroDivisionError("x"), UnicodeDecodeError("ascii", b"\xff", 0, 1, "x")):
            log_unraisable(SimpleNamespace(exc_value=error))  # type: ignore[arg-type]
    assert [line["event"] for line in lines] == ["an error was ignored"]


def test_what_peers_cause_is_logged_sparingly() -> None:
    """So many lines a second; the next second's first line says how many were left out."""
    sparing = SparingLogger("proxy", most=3)
    with capture_logs() as lines:
        for n in range(10):
            sparing.warning("failed", 7.0 + n / 100, number=n)
        sparing.warning("failed", 8.5, number=10)
        sparing.warning("failed", 8.6, number=11)
    assert [(line["number"], line.get("left_out")) for line in lines] == [
        (0, None),
        (1, None),
        (2, None),
        (10, 7),
        (11, None),
    ]
