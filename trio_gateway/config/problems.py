"""What is wrong with a config file, and where: the one form in which every mistake is told.

Nothing here raises. A reader that stops at the first mistake makes its user run it once per mistake,
so all stages write into one `Findings` and go on; a mistake inside a block that many endpoints
inherit is told once, at the place where it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from attrs import define, field, frozen

Path = tuple[str | int, ...]
"""Keys and list indices from the root of the file to a value."""

NOT_AVAILABLE = "not available in this version"
"""What is said of a name that is reserved for a feature the gateway does not have yet."""

_LONGEST_GUESS = 60  # difflib is quadratic; nobody mistypes a key of this length


@frozen
class Problem:
    """One mistake. Lines and columns count from 1; line 0 means that no line of a file is to blame."""

    file: str
    line: int
    col: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


def dotted(path: Path) -> str:
    """`("endpoints", 2, "timeout")` as `endpoints[2].timeout`; unprintable keys are escaped."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if step.isprintable() else ascii(step))
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown `word`: the likeliest known one, or nothing."""
    if len(word) > _LONGEST_GUESS:
        return ""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f"; did you mean `{by_fold[close[0]]}`?" if close else ""


@define
class Findings:
    """The errors and warnings of one file, each told once."""

    file: str
    _errors: dict[tuple[int, int, str], Problem] = field(factory=dict)
    _warnings: dict[tuple[int, int, str], Problem] = field(factory=dict)

    def error(self, line: int, col: int, path: Path, message: str) -> None:
        """The config cannot be used."""
        self._errors.setdefault((line, col, message), self._problem(line, col, path, message))

    def warn(self, line: int, col: int, path: Path, message: str) -> None:
        """The config can be used, though not all of it does what its author may expect."""
        self._warnings.setdefault((line, col, message), self._problem(line, col, path, message))

    def _problem(self, line: int, col: int, path: Path, message: str) -> Problem:
        return Problem(self.file, line, col, dotted(path), message)

    @property
    def errors(self) -> list[Problem]:
        """Every error, in the order of the file."""
        return sorted(self._errors.values(), key=_in_file_order)

    @property
    def warnings(self) -> list[Problem]:
        """Every warning, in the order of the file."""
        return sorted(self._warnings.values(), key=_in_file_order)


def _in_file_order(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.col
