"""The structure that the README draws: who may import whom, how large things are, what stands beside what.

What concerns the code is read from its source text.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from trio_gateway.cli import VERBS
from trio_gateway.config.load import parse_config

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trio_gateway"
TESTS = ROOT / "tests"

RANKS = {
    "errors": 0,
    "config": 1,
    "domain": 2,
    "wire": 2,
    "observe": 3,
    "proxy": 4,
    "background": 5,
    "server": 6,
    "admin": 7,
    "supervisor": 8,
    "demo": 9,
    "cli": 10,
}
"""Imports go to a lower rank or stay inside their folder."""

FORBIDDEN = {
    "errors": {"trio", "httpx"},
    "config": {"trio", "httpx", "structlog"},
    "domain": {"trio", "httpx", "structlog", "httptools"},
    "wire": {"trio", "httpx", "structlog"},
}
"""Libraries that a folder must not know: what decides or parses neither waits nor talks."""

LONGEST_FILE = 400
LONGEST_BODY = 60
USUAL_BODY = 25

TESTED_ELSEWHERE = {
    "__init__.py": "test_package.py",
    "__main__.py": "e2e/test_cli.py",
    "cli/__init__.py": "cli/test_main.py",
}
"""Source files whose tests have another name."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def part_of(path: Path) -> str:
    """The folder or top-level module that a file belongs to; empty for the package's own files."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first.startswith("__") else first


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in the file it does."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


# ---- imports --------------------------------------------------------------------------------------


def upward(path: Path) -> list[str]:
    """The imports of a file that go to a higher rank, or sideways into another folder."""
    part, found = part_of(path), []
    for line, name in imports(path):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package == "trio_gateway" and target in RANKS and target != part and RANKS[target] >= RANKS[part]:
            found.append(f"{name_of(path)}:{line} imports {name}")
    return found


def test_every_folder_has_a_rank() -> None:
    """A new folder takes its place before its first import."""
    assert {part_of(path) for path in SOURCES} - {""} <= RANKS.keys()


@pytest.mark.parametrize("path", [path for path in SOURCES if part_of(path)], ids=name_of)
def test_imports_go_down(path: Path) -> None:
    """To a lower rank, or to the same folder: the picture has no arrow that points up."""
    assert upward(path) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if part_of(path) in FORBIDDEN], ids=name_of)
def test_what_decides_does_not_wait(path: Path) -> None:
    """Config, decisions and codecs are plain functions of their arguments."""
    known = {name.partition(".")[0] for _, name in imports(path)}
    assert known & FORBIDDEN[part_of(path)] == set()


def test_decisions_know_no_more_of_the_config_than_its_model() -> None:
    """How a file is read is none of the domain's business; addresses are spelled alike everywhere."""
    for path in SOURCES:
        if part_of(path) == "domain":
            ours = [name for _, name in imports(path) if name.startswith("trio_gateway.")]
            allowed = (
                "trio_gateway.config.addresses",
                "trio_gateway.config.model",
                "trio_gateway.domain",
                "trio_gateway.errors",
            )
            assert [name for name in ours if not name.startswith(allowed)] == []


def test_the_package_itself_imports_nothing_at_once() -> None:
    """`import trio_gateway` costs nothing: what it names is loaded when it is used."""
    tree = tree_of(PACKAGE / "__init__.py")
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in at_once}
    assert names == {"__future__", "importlib", "typing"}


# ---- sizes ----------------------------------------------------------------------------------------


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring left out."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions() -> Iterator[tuple[str, int]]:
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(path)}:{node.lineno} {node.name}", body_lines(node)


def test_files_are_short() -> None:
    """A file is read in one go."""
    lengths = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    longest = max(lengths.values())
    print(f"\nfiles: {len(lengths)}, median {median(lengths.values()):.0f} lines, longest {longest}")
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    """A function fits on a screen, and nine of ten in half of one."""
    lengths = dict(functions())
    ninth = sorted(lengths.values())[len(lengths) * 9 // 10]
    print(f"\nfunctions: {len(lengths)}, median {median(lengths.values()):.0f} lines, p90 {ninth}")
    assert {name: length for name, length in lengths.items() if length > LONGEST_BODY} == {}
    assert ninth <= USUAL_BODY


# ---- tests ----------------------------------------------------------------------------------------


def twins(path: Path) -> list[Path]:
    """Where the tests of a source file may stand."""
    name = name_of(path)
    if name in TESTED_ELSEWHERE:
        return [TESTS / TESTED_ELSEWHERE[name]]
    folder = TESTS / path.relative_to(PACKAGE).parent
    if path.parent.name == "model":  # a tree of declarations, tested as one
        return [folder / "test_model.py"]
    return [folder / f"test_{path.name}", TESTS / "gateway" / f"test_{path.name}"]


def has_code(path: Path) -> bool:
    """Whether a file defines anything: a package's `__init__` often only says what the package is."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return path.name != "__init__.py" or any(isinstance(node, definitions) for node in tree_of(path).body)


@pytest.mark.parametrize("path", [path for path in SOURCES if has_code(path)], ids=name_of)
def test_every_source_file_has_a_twin(path: Path) -> None:
    """Who changes a file knows where its tests are."""
    assert any(twin.is_file() for twin in twins(path)), (
        f"none of {[str(t.relative_to(ROOT)) for t in twins(path)]}"
    )


def test_tests_do_not_sleep() -> None:
    """They wait for events and virtual time; only real processes take real time."""
    sleepers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in TESTS.rglob("*.py")
        if "e2e" not in path.parts
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert sleepers == []


# ---- what people read -----------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Every text that git knows, or every one that is no product of a tool where there is no git."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.splitlines()] or [*SOURCES, *TESTS.rglob("*.py")]
    return [path for path in paths if path.is_file()]


def test_nothing_names_a_place_on_somebody_s_machine() -> None:
    """No path of a home, a workspace or a job is in the repository."""
    place = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w")
    found = []
    for path in tracked():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"{path.relative_to(ROOT)}:{at}" for at, line in enumerate(lines, 1) if place.search(line)]
    assert found == []


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_opens_with_the_two_commands() -> None:
    """Whoever arrives can start at once."""
    first_block = README.split("```")[1]
    commands = [line.split("#")[0].strip() for line in first_block.splitlines()[1:] if line]
    assert commands == ["make demo", "make test"]


def test_the_readme_s_first_config_is_good_and_short() -> None:
    """Ten lines that `check` has nothing to say about."""
    text = README.split("```yaml\n")[1].split("```")[0]
    loaded = parse_config(text, "README.md", {})
    assert (loaded.problems, loaded.warnings) == ([], [])
    assert len(text.splitlines()) == 10


def test_the_readme_names_every_verb() -> None:
    """What the command line offers can be found, and nothing that it does not."""
    table = README.split("## Command line")[1].split("\n\n")[1]
    assert re.findall(r"^\| `(\w+)", table, re.MULTILINE) == list(VERBS)


def test_the_readme_s_layout_is_true() -> None:
    """Its table of folders names those that exist, in the order of their ranks."""
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| (\d+) \|", README, re.MULTILINE)
    assert {name: int(rank) for name, rank in rows} == RANKS
    assert all(int(one) <= int(two) for (_, one), (_, two) in pairwise(rows))


def test_the_readme_s_links_lead_somewhere() -> None:
    """A relative link names a file of the repository, and an anchor one of the README's headings."""
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", README):
        if link.startswith("#"):
            assert link[1:] in anchors
        elif "://" not in link:
            assert (ROOT / link.partition("#")[0]).exists(), link
