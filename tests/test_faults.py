"""The fault matrix: what bad input, broken peers and load must get, row by row, and who tests it.

Each row names the doors that it applies to: `lane` for HTTP/1.1, `lane-tls` where the transport matters
too, `h2` for HTTP/2 by the Quart route, and `gateway` for what comes through neither. A test says with
`fault(row)` which row it shows; its door is that of its fixture, or what `through` says. A row without a
test through each of its doors fails here.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.faults import COLLECTED

BOTH = ("lane", "h2")
LANE = ("lane",)
H2 = ("h2",)
GATEWAY = ("gateway",)
ALL = (*BOTH, *GATEWAY)
TLS = (*BOTH, "lane-tls")


@frozen
class Row:
    """An input or fault, what it must get, and the doors it applies to; `why` not the others."""

    fault: str
    expected: str
    doors: tuple[str, ...] = BOTH
    why: str = ""


NO_CODINGS = "HTTP/2 has no Transfer-Encoding; a field of that name is D3"
NO_LINES = "HTTP/2 has no lines; line breaks in its fields are D1"
NO_SOCKETS = "over HTTP/2 extended CONNECT is refused: L4"
OWN = "what HTTP/2 alone can say"

ROWS = {
    # ---- ten rules behind the rows
    "rule 1": Row("a bug of ours", "ends its connection or exchange, logged and counted once"),
    "rule 2": Row("targets, fields and bodies", "bytes in, bytes out"),
    "rule 3": Row("framing", "every message is framed by the gateway itself"),
    "rule 4": Row("waits and writes", "each has a named timer"),
    "rule 5": Row("upstream connections", "pooled only behind two complete messages and nothing else"),
    "rule 6": Row("cancellation anywhere", "every place and permit is given back"),
    "rule 7": Row("faults behind the head", "truncate visibly, never another status"),
    "rule 8": Row("departures", "always noticed; behind the last byte no error"),
    "rule 9": Row("replays", "only what is safe, settled once"),
    "rule 10": Row("one endpoint's trouble", "exhausts nothing that others need"),
    # ---- requests: framing and heads
    "F1": Row("Content-Length with Transfer-Encoding", "400, close", LANE, NO_CODINGS),
    "F2": Row("a body that hides a second request", "one request upstream for each accepted"),
    "F3": Row("Content-Length that is no number, or two that differ", "400, close"),
    "F5": Row("Transfer-Encoding in disguise", "400, close; 501 for unknown codings", LANE, NO_CODINGS),
    "F7": Row("folded fields", "400", LANE, NO_LINES),
    "F8": Row("NUL, bare CR, controls in values", "400; on HTTP/2 the stream is reset"),
    "F9": Row("heads with bare LF", "400", LANE, NO_LINES),
    "F10": Row("chunk sizes and extensions in disguise", "400, close", LANE, "HTTP/2 has no chunks"),
    "F12": Row("an upload that breaks off", "the upstream sees an abort, never a last chunk", TLS),
    "L1": Row("no Host, two Hosts", "400"),
    "L3": Row("absolute-form", "its authority wins, one Host upstream; on HTTP/2 400"),
    "L4": Row("CONNECT, TRACE, OPTIONS *", "405; OPTIONS * is the gateway's"),
    "L6": Row("other versions, PRI, Upgrade: h2c", "505; h2c is ignored", LANE, "HTTP/2 names no version"),
    "L7": Row("long targets, heads, many fields, whole and in pieces", "414, 431, the same answer"),
    "L8": Row("targets without slash, with #, space, beyond ASCII", "400"),
    "R1": Row("escapes, delimiters and empty segments", "forwarded byte-exact, or 400"),
    "R2": Row("dot segments in every spelling", "never beyond what the route granted"),
    "H1": Row("hop-by-hop fields, and those that Connection names", "removed both ways; 400 for some"),
    "H3": Row("X-Forwarded-*, Forwarded, X-Real-IP", "replaced; continued for trusted peers"),
    "H5": Row("duplicates, order, case, obs-text", "unchanged both ways"),
    "H6": Row("a bare client", "nothing is invented but what is documented"),
    "H7": Row("cookies", "never another's, nor a probe's", ALL),
    "H8": Row("HEAD, 204, 205, 304, codings", "framed right, untouched, connection reusable", TLS),
    # ---- upstreams
    "U1": Row("refused, blackhole, DNS failure, DNS hang", "502, 504 at `connect`; others unaffected"),
    "U2": Row("replies that are none", "502, connection dropped, breaker counts"),
    "U3": Row("closed before the reply", "502; one replay where that is safe"),
    "U4": Row("a reply's body cut", "the client can tell; so does the access line"),
    "U5": Row("bytes behind a reply", "the next user gets his own answer"),
    "U8": Row("no head, a drip, a stall", "504; relayed; cut at `idle`", TLS),
    # ---- clients and load
    "C1": Row("the client leaves", "the upstream's connection closes within 100 ms", TLS),
    "C2": Row("an upload is given up half-way", "the upstream sees an abort", TLS),
    "C3": Row("heads and bodies that drip", "ended at their timers", TLS),
    "C4": Row("clients that never read", "memory bounded, cut at `write`, others served", TLS),
    "C5": Row("an upload to a slow upstream", "bounded on the way, bytes identical", TLS),
    "C6": Row("a crowd that gives up", "afterwards as if nothing had been"),
    "C8": Row("Connection: close, HTTP/1.0, idling", "closed promptly"),
    "C10": Row("one hung upstream and 500 who wait", "others unaffected; 504 at `timeout`"),
    # ---- HTTP/2
    "K1": Row("hostile openings", "the process lives, bystanders are served"),
    "D1": Row("CR, LF, NUL, space, non-ASCII in fields", "reset or 400, never forwarded", H2, OWN),
    "D2": Row(":authority and Host differ, two Hosts", "400", H2, OWN),
    "D3": Row("fields of a connection", "stream error", H2, OWN),
    "D4": Row("Content-Length and DATA differ", "stream error, never a whole body", H2, OWN),
    "D5": Row("Cookie in crumbs", "one field", H2, OWN),
    "D6": Row("floods", "GOAWAY, bounded", H2, OWN),
    "D7": Row(
        "a stalled stream and its neighbour", "the neighbour is served, the stalled one freed", H2, OWN
    ),
    # ---- WebSockets
    "W1": Row(
        "247 cases to an independent echo server", "none fails that passes without us", LANE, NO_SOCKETS
    ),
    "W2": Row("closes with a code, losses without", "code and reason pass; 1001, 1011", LANE, NO_SOCKETS),
    "W4": Row("subprotocols", "the upstream's choice or none; an unknown one is 502", LANE, NO_SOCKETS),
    "W5": Row("empty, fragmented and too large messages", "exact; 1009", LANE, NO_SOCKETS),
    "W6": Row("a reader that stalls", "the speaker waits, memory bounded", LANE, NO_SOCKETS),
    # ---- meaning
    "M1": Row("spellings of another route", "400 or that route's own gates"),
    "M2": Row("preflights; redirects of a backend to itself", "as configured"),
    # ---- operating
    "S3": Row("a reload to a bad config", "the old one stays, the error is told", GATEWAY),
    "S5": Row("probes that raise, hang, flap", "one endpoint affected, hysteresis", GATEWAY),
    "S6": Row("half-open with a hundred at once", "exactly so many probes"),
    "A1": Row("the management API under fire", "no 5xx; 401; 404 on the proxy's listener", GATEWAY),
    "S1": Row(
        "SIGTERM under load", "not ready first, started requests finish, exit in time", (*TLS, *GATEWAY)
    ),
    "Z1": Row("everything at once", "pairs right, one access line each, back at the baseline", ALL),
}
TESTS = Path(__file__).parent


def _doors(item: pytest.Item) -> set[str]:
    said = {mark.kwargs["door"] for mark in item.iter_markers("through")}
    if said:
        return said
    params = getattr(getattr(item, "callspec", None), "params", {})
    fixtures = {"lane", "h2"} & set(getattr(item, "fixturenames", ()))
    return {params["door"]} if isinstance(params.get("door"), str) else fixtures


@pytest.fixture(scope="module")
def marked(request: pytest.FixtureRequest) -> dict[tuple[str, str], list[str]]:
    """The tests of each row and door, but the long runs. Only who collects the whole suite knows them."""
    items = [item for item in request.config.stash[COLLECTED] if item.get_closest_marker("soak") is None]
    if {item.path for item in items} != set(TESTS.rglob("test_*.py")):
        pytest.skip("judged when the whole suite is collected")
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        for mark in item.iter_markers("fault"):
            for door in _doors(item):
                found[mark.kwargs["row"], door].append(item.nodeid)
    return found


@pytest.mark.parametrize(("row", "door"), [(name, door) for name, row in ROWS.items() for door in row.doors])
def test_a_row_is_tested_through_each_of_its_doors(
    row: str, door: str, marked: dict[tuple[str, str], list[str]]
) -> None:
    """Some test shows the row, coming through that door."""
    assert marked[row, door]


def test_marks_name_rows(marked: dict[tuple[str, str], list[str]]) -> None:
    """No test is marked with a row that is none, or one that its door has no words for."""
    for row, door in marked:
        assert door.removesuffix("-tls") in ROWS[row].doors, (row, door)


def test_each_door_left_out_has_a_reason() -> None:
    """A row that one door has no words for says why."""
    assert all(row.why or set(BOTH) <= set(row.doors) or row.doors == GATEWAY for row in ROWS.values())
