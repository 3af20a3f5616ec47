"""A reading that remembers another one says what a reading without memory says."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gateway.config.load import Loaded, parse_config
from trio_gateway.config.source import Recall

FILE = """\
# comment
timeout: 20
endpoints:
  - url: http://one/
    name: one
    description: |
      two
      lines
  - {url: "http://two/", name: two, timeout: 7}

  - url: http://thrée/   # how
    name: three
    methods: [GET,
      POST]
log_level: INFO
"""


def parse(text: str, recall: Recall | None = None, **environ: str) -> Loaded:
    return parse_config(dedent(text).lstrip("\n"), "gateway.yaml", environ, recall)


def same(one: Loaded, other: Loaded) -> bool:
    """Whether two readings say the same, place for place."""
    return (one.config, one.problems, one.warnings) == (other.config, other.problems, other.warnings)


def kept(text: str, then: str) -> list[str]:
    """The ids of endpoints that a second reading took over from the first."""
    first = parse(text)
    second = parse(then, first.recall)
    assert same(second, parse(then))
    known = {id(endpoint) for endpoint in first.config.endpoints}
    return [endpoint.id for endpoint in second.config.endpoints if id(endpoint) in known]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: three", "name: three", ["one", "two", "three"]),
        ("# comment", "# comment\n# and another", ["one", "two", "three"]),
        ("log_level: INFO", "log_level: ERROR", ["one", "two", "three"]),
        ("timeout: 7", "timeout: 8", ["one", "three"]),
        ("  - {url", "  - {url: 'http://new/', name: new}\n  - {url", ["one", "two", "three"]),
        ("two\n", "2\n", ["two", "three"]),
        ("timeout: 20", "timeout: 21", []),
        ("timeout: 20", "health_check: {interval: 7}", []),
        ("timeout: 20", "timeout: 20\ncors: {max_age: 7}", []),
    ],
)
def test_what_is_written_as_before_is_the_very_same_object(old: str, new: str, expected: list[str]) -> None:
    """Wherever it stands now, as long as its text and what it inherits are the same."""
    assert kept(FILE, FILE.replace(old, new)) == expected


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (
            """
            log_level: &level INFO
            endpoints:
              - {url: http://a/, name: a, description: *level}
            """,
            "INFO",
            "ERROR",
        ),
        (
            """
            endpoints:
              - {url: http://a/, name: a, cors: &cors {max_age: 5}}
              - url: http://b/
                name: b
                cors:
                  <<: *cors
            """,
            "max_age: 5",
            "max_age: 6",
        ),
        (
            """
            log_level: &level INFO
            timeout: 5
            description: *level
            endpoints: [{url: http://a/, name: a}]
            """,
            "INFO",
            "ERROR",
        ),
        (
            """
            %TAG ! tag:yaml.org,2002:
            ---
            endpoints: [{url: http://a/, name: a, timeout: !int 5}]
            """,
            "%TAG ! tag:yaml.org,2002:",
            "%TAG ! tag:example.org,2002:",
        ),
        (
            """
            endpoints:
            -   url:
                name: a
            """,
            "-   url",
            "-  url",
        ),
    ],
)
def test_what_hangs_on_another_place_is_read_again(text: str, old: str, new: str) -> None:
    """Aliases, merge keys, tags and the column decide what a text means."""
    kept(text, text.replace(old, new))


def test_variables_of_one_process_do_not_change() -> None:
    """An endpoint that takes something from the environment is kept."""
    text = 'endpoints: [{url: "http://${HOST}/", name: a}]'
    first = parse(text, HOST="one")
    second = parse(text + "\nlog_level: ERROR", first.recall, HOST="one")
    assert second.config.endpoints[0] is first.config.endpoints[0]


@pytest.mark.parametrize("what", ["timeout: soon", "tiemout: 5", "methods: []"])
def test_what_there_is_to_tell_is_told_each_time_at_its_place(what: str) -> None:
    """A reading with a mistake or a warning is not remembered, and one that remembers tells its own."""
    odd = FILE.replace("name: one", f"name: one\n    {what}")
    assert parse(odd).recall.endpoints == {}
    moved = odd.replace("# comment", "# comment\n\n")
    again = parse(moved, parse(FILE).recall)
    assert same(again, parse(moved))
    assert again.problems or again.warnings


def test_a_remembered_endpoint_that_comes_twice_is_skipped_where_it_stands() -> None:
    """Findings that compare endpoints name their lines."""
    twice = FILE.replace("log_level", '  - {url: "http://two/", name: two, timeout: 7}\nlog_level')
    again = parse(twice, parse(FILE).recall)
    assert same(again, parse(twice))
    assert len(again.warnings) == 1


HEADS = [
    "",
    "timeout: 5\n",
    "log_level: &x DEBUG\n",
    "cors: {origins: ['*']}\n",
    "%TAG ! tag:yaml.org,2002:\n---\n",
]
CHUNKS = [
    "  - url: http://a/\n    name: a\n",
    "  - url: http://a/\n    name: a\n    timeout: 7\n",
    "  - {url: http://b/, name: b}\n",
    "  - {url: http://c/, name: c, headers: {request: {set: {X: '*'}}}}\n",
    "  - url: http://d/\n    description: |\n      text\n\n    name: d\n",
    "  - url: http://e/\n    description: *x\n    name: e\n",
    "  - url: http://f/\n    description: &x f\n    name: f\n",
    "  - url: http://g/\n    description: 'two\n  lines'\n    name: g\n",
    "  - {url: !str http://h/, name: h}\n",
    "  - {url: http://i/}\n",
    "  # note\n",
    "    name: z\n",
]
TEXTS = st.tuples(st.sampled_from(HEADS), st.lists(st.sampled_from(CHUNKS), max_size=6)).map(
    lambda parts: parts[0] + "endpoints:\n" + "".join(parts[1])
)


@settings(max_examples=500)
@given(TEXTS, TEXTS)
def test_memory_changes_nothing_but_the_time(one: str, two: str) -> None:
    """Whatever the file was and whatever it is: the config, the problems and the warnings are the same."""
    assert same(parse(two, parse(one).recall), parse(two))
