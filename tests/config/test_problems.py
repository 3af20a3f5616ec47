"""What problems look like, and that each is told once."""

from __future__ import annotations

import pytest

from trio_gateway.config.problems import Findings, Path, Problem, did_you_mean, dotted


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("a.yaml", 3, 7, "server.bind", "is bad"), "a.yaml:3:7: server.bind: is bad"),
        (Problem("a.yaml", 3, 7, "", "is bad"), "a.yaml:3:7: is bad"),
        (Problem("environment", 0, 0, "WORKERS", "waits"), "environment: WORKERS: waits"),
    ],
)
def test_a_problem_reads_as_compilers_write_them(problem: Problem, line: str) -> None:
    """Editors can jump to the place that a problem names."""
    assert str(problem) == line


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("endpoints", 2, "timeout"), "endpoints[2].timeout"),
        (("a", "b\nc"), "a.'b\\nc'"),
    ],
)
def test_a_path_is_one_line(path: Path, text: str) -> None:
    """No key can break a problem into two lines."""
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("word", "ending"),
    [
        ("tiemout", "; did you mean `timeout`?"),
        ("Timeout", "; did you mean `timeout`?"),
        ("zebra", ""),
        ("timeout" * 20, ""),
    ],
)
def test_a_near_miss_is_named(word: str, ending: str) -> None:
    """A typing error gets its cure, a strange word gets no guess."""
    assert did_you_mean(word, ["timeout", "timeouts"]) == ending


def test_findings_come_once_and_in_file_order() -> None:
    """A mistake that many endpoints inherit is one line, under the path that met it first."""
    findings = Findings("f")
    findings.error(9, 1, ("b",), "wrong")
    findings.error(2, 1, ("timeouts",), "wrong")
    findings.error(2, 1, ("endpoints", 0, "timeouts"), "wrong")
    findings.warn(1, 1, ("c",), "odd")
    assert [(p.line, p.path) for p in findings.errors] == [(2, "timeouts"), (9, "b")]
    assert [p.path for p in findings.warnings] == ["c"]
