"""Variables inside values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.environ import expand

ENVIRON = {"HOST": "db", "EMPTY": "", "NESTED": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("http://${HOST}:80/${HOST}", "http://db:80/db"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${MISSING:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${HOST:-default}", "db"),
        ("$$", "$"),
        ("$${HOST}", "${HOST}"),
        ("costs $5 or $HOST, 100$", "costs $5 or $HOST, 100$"),
        ("${NESTED}", "${HOST}"),
    ],
)
def test_variables_are_replaced(text: str, expanded: str) -> None:
    """References expand once; what stands in a variable is never looked at again."""
    assert expand(text, ENVIRON) == expanded


@pytest.mark.parametrize("text", ["${", "${}", "${HOST", "${1A}", "${HO ST}", "${A:-${HOST}}", "${A-b}"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    """A reference that a shell would read in another way is an error, not a literal."""
    with pytest.raises(ValueError, match=r"expected \$\{NAME\}"):
        expand(text, ENVIRON)


def test_every_unset_variable_is_named() -> None:
    """One run tells all that is missing."""
    with pytest.raises(ValueError, match="A is not set; the environment variable B is not set"):
        expand("${A} ${HOST} ${B}", ENVIRON)


@given(st.text())
def test_doubled_dollars_keep_any_text(text: str) -> None:
    """Every text can be written."""
    assert expand(text.replace("$", "$$"), {}) == text
