"""From text to values with positions: what YAML allows and a config must not contain."""

from __future__ import annotations

import time

import pytest

from tests.config.reading import endpoint, good, load, problems
from trio_gateway.config.model import GatewayConfig
from trio_gateway.config.problems import Findings
from trio_gateway.config.source import Items, Table, Text, read_source

LAUGHS = "a0: &a0 [lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~", "null", "{}", "---\n...\n"])
def test_an_empty_file_is_all_defaults(text: str) -> None:
    """Nothing said, nothing wrong."""
    loaded = load(text)
    assert loaded.require() == GatewayConfig()
    assert loaded.warnings == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[a]", "1:1"),
        ("just words", "1:1"),
        ("server: {", "2:1"),
        ("server:\n\th2c: true", "2:1"),
        ("a: b: c", "1:5"),
        ("a: 1\nb: *nowhere", "2:4"),
        ("a: 1\n--- \nb: 2", "2:1"),
        ("a: 1\nb: \x07", "2:4"),
        ("a: \ud800", "1:1"),
        ("%YAML 9.9\n---\na: 1", "1:1"),
    ],
)
def test_what_is_no_config_is_one_problem(text: str, place: str) -> None:
    """A file that cannot be parsed is refused at the place where it broke."""
    (problem,) = problems(text)
    assert problem.startswith(f"{place}:"), problem


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "x: " + "[" * 70 + "]" * 70]
)
def test_deep_nesting_is_refused(text: str) -> None:
    """No file can overrun the parser's stack."""
    (problem,) = problems(text)
    assert "nested deeper than 64 levels" in problem


def test_a_duplicate_key_is_refused() -> None:
    """Of two values for one key none wins silently; the message names the first."""
    assert problems("server:\n  h2c: true\n  'h2c': false\n") == [
        "3:3: server.h2c: given twice in one mapping, first in line 2"
    ]


def test_runaway_aliases_are_refused_quickly() -> None:
    """A billion laughs cost nothing and are an error, even under a key that nobody reads."""
    started = time.process_time()
    (problem,) = problems(LAUGHS)
    assert problem == "1:1: its aliases (`*name`) repeat too many values"
    assert time.process_time() - started < 1


def test_an_alias_in_itself_is_refused() -> None:
    """A value that contains itself has no end."""
    assert problems("a: &a [1, *a]") == ["1:4: a[1]: this alias contains itself"]


def test_honest_aliases_and_merge_keys_work() -> None:
    """One block written once serves many places, and a mapping's own keys win over merged ones."""
    read = good(
        """
        endpoints:
          - &base {url: http://a, name: a, timeout: 5, methods: [POST]}
          - {<<: *base, url: http://b, name: b}
          - {name: c, <<: [{timeout: 7}, *base]}
        """
    )
    assert [(e.name, e.url, e.timeout, e.methods) for e in read.endpoints] == [
        ("a", "http://a/", 5.0, ("POST",)),
        ("b", "http://b/", 5.0, ("POST",)),
        ("c", "http://a/", 7.0, ("POST",)),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<<: 5", "1:5: `<<` takes a mapping or a list of mappings"),
        ("? [a]\n: b", "1:3: a key must be a plain text"),
        ("log_level: !secret x", "1:12: log_level: the tag !secret is not supported"),
        (
            "server: !!python/object:os.system {}",
            "1:9: server: the tag tag:yaml.org,2002:python/object:os.system",
        ),
        ("endpoints: !!set {a}", "1:12: endpoints: the tag tag:yaml.org,2002:set is not supported"),
        ("endpoints: !list []", "1:12: endpoints: the tag !list is not supported"),
    ],
)
def test_what_yaml_allows_and_a_config_must_not_contain(text: str, problem: str) -> None:
    """Keys are text, tags are YAML's own, and nothing in a file is ever executed."""
    (told,) = problems(text)
    assert told.startswith(problem)


def test_an_unset_variable_is_told_where_it_stands() -> None:
    """The mistake has line, column and path, and nothing else is said about the value."""
    assert problems("endpoints:\n  - url: ${BACKEND}\n") == [
        "2:10: endpoints[0].url: the environment variable BACKEND is not set"
    ]


def test_a_variable_is_never_parsed_again() -> None:
    """Whatever stands in a variable stays one value; a field may still read it as its own type."""
    read = endpoint(
        "endpoints: [{url: 'http://${HOST}/', name: n, timeout: '${T}', description: '${D}'}]",
        HOST="h",
        T="250ms",
        D="x, disabled: true}\n- {url: http://evil",
    )
    assert (read.url, read.timeout, read.disabled) == ("http://h/", 0.25, False)
    assert read.description == "x, disabled: true}\n- {url: http://evil"


@pytest.mark.parametrize("word", ["null", "", "~"])
def test_a_variable_is_never_null(word: str) -> None:
    """An empty or odd variable is a text, so it cannot switch a field back to its default."""
    assert endpoint("endpoints: [{url: http://h, name: n, description: '${D}'}]", D=word).description == word


def test_values_know_their_places() -> None:
    """Lines and columns count from one and point at the value itself."""
    root = read_source("a:\n  - b: ${X}\n", {"X": "y"}, Findings("f"))
    items = root.entries["a"].value
    assert isinstance(items, Items)
    table = items.items[0]
    assert isinstance(table, Table)
    text = table.entries["b"].value
    assert isinstance(text, Text)
    assert [(v.line, v.col) for v in (items, table, text)] == [(2, 3), (2, 5), (2, 8)]
    assert (text.text, text.written, text.from_environment) == ("y", "${X}", True)
