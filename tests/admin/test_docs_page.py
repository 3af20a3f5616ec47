"""`/docs`: one page that lists everything and loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from trio_gateway.admin.docs_page import render
from trio_gateway.admin.openapi import document
from trio_gateway.admin.operations import shown
from trio_gateway.config.model import GatewayConfig

DOCUMENT = document(shown(GatewayConfig(), "shared"))
PAGE = render(DOCUMENT)
_VOID = ("meta", "br", "link", "img", "input", "hr")


class _Page(HTMLParser):
    """Checks that tags are closed in order, and collects text, ids and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src") if name in found]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> _Page:
    parsed = _Page()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed


def test_every_operation_is_on_it() -> None:
    """Method, path, words, parameters, replies."""
    page = read(PAGE)
    for path, methods in DOCUMENT["paths"].items():
        assert path in page.text
        for entry in methods.values():
            assert entry["operationId"] in page.ids
            assert entry["summary"].replace("`", "") in page.text
            assert all(each["name"] in page.text for each in entry.get("parameters", ()))
    assert '"circuit_breaker_state": "closed"' in page.text


def test_every_schema_is_on_it() -> None:
    """And every link on the page leads to a place on the page, or to the document."""
    page = read(PAGE)
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}


def test_it_loads_and_runs_nothing() -> None:
    """It works without a network and without scripts."""
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(read(PAGE).tags)
    assert not re.search(r"url\(|@import|https?://(?!users\.internal)", PAGE)


def test_words_are_text() -> None:
    """Whatever stands in the document, it can't become markup; backticks mark code."""
    hostile = "<img src=x> & `<b>`"
    doctored = {**DOCUMENT, "info": {**DOCUMENT["info"], "description": hostile}}
    page = read(render(doctored))
    assert "img" not in page.tags
    assert "<img src=x> & <b>" in page.text
