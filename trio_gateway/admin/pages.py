"""What people open in a browser: the index, the documentation, and the document behind it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import msgspec
from attrs import frozen

from trio_gateway import __version__
from trio_gateway.admin.docs_page import render
from trio_gateway.admin.openapi import document
from trio_gateway.admin.operation import Answer, Call, Operation
from trio_gateway.admin.plane import Plane
from trio_gateway.proxy.aside import beside_the_loop

_DESCRIPTION = "API gateway with authentication passthrough, health checks and circuit breakers"
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@frozen(slots=False)
class Places:
    """Where things are."""

    health: str
    configuration: str
    registry: str
    routing: str
    health_monitoring: str
    orchestrator: str
    docs: str


@frozen(slots=False)
class Index:
    """Who answers, and where things are."""

    service: str
    version: str
    description: str
    endpoints: Places


def index(plane: Plane, call: Call) -> Index:  # noqa: ARG001  a view's signature
    """Tell who answers, and where things are."""
    return index_of(plane.config.server.prefix)


def index_of(prefix: str) -> Index:
    """The index of a gateway that proxies under `prefix`."""
    places = Places(
        health="/health",
        configuration="/config",
        registry="/registry",
        routing="/router",
        health_monitoring="/health",
        orchestrator=prefix.rstrip("/") + "/{path}",
        docs="/docs",
    )
    return Index("Orchestrator API", __version__, _DESCRIPTION, places)


def redoc(plane: Plane, call: Call) -> Answer:  # noqa: ARG001
    """Lead to the documentation."""
    return Answer(307, b"", "text/plain", {"Location": "/docs"})


OPERATIONS = (
    Operation("GET", "/", "open", index, Index, tag="pages"),
    Operation("GET", "/redoc", "open", redoc, None, media_type="text/plain", status=307, tag="pages"),
)


class Documentation:
    """The two operations that describe all operations, themselves included.

    What they say is made beside the loop when it is first asked for, and kept.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        docs = Operation("GET", "/docs", "open", self.docs, None, media_type="text/html", tag="pages")
        openapi = Operation("GET", "/openapi.json", "open", self.openapi_json, None, tag="pages")
        self.operations = (*operations, docs, openapi)

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document(self.operations)

    @cached_property
    def _json(self) -> bytes:
        return msgspec.json.encode(self._document)

    @cached_property
    def _page(self) -> bytes:
        return render(self._document).encode()

    async def openapi_json(self, plane: Plane, call: Call) -> Answer:  # noqa: ARG002  a view's signature
        """Give the OpenAPI document of this API."""
        return Answer(200, await beside_the_loop(lambda: self._json))

    async def docs(self, plane: Plane, call: Call) -> Answer:  # noqa: ARG002
        """Show every operation on a page that needs nothing from elsewhere."""
        return Answer(200, await beside_the_loop(lambda: self._page), "text/html; charset=utf-8", _POLICY)
