"""What people open in a browser."""

from __future__ import annotations

from pathlib import Path

from tests.admin.control import control


async def test_the_index_names_the_prefix(tmp_path: Path) -> None:
    """Where proxied paths stand."""
    async with control(tmp_path, "server: {prefix: /api}\nendpoints: []\n") as gateway:
        index = (await gateway.get("/", scope=None)).json
        assert index["endpoints"]["orchestrator"] == "/api/{path}"


async def test_the_documentation_is_a_page_that_trusts_nobody(tmp_path: Path) -> None:
    """HTML, with a policy that forbids scripts, frames and anything from elsewhere."""
    async with control(tmp_path) as gateway:
        page = await gateway.get("/docs", scope=None)
        assert page.header("Content-Type") == "text/html; charset=utf-8"
        assert page.header("Content-Security-Policy").startswith("default-src 'none'")
        assert b"/registry/endpoints/{endpoint_id}" in page.body


async def test_redoc_leads_there(tmp_path: Path) -> None:
    """Old bookmarks work."""
    async with control(tmp_path) as gateway:
        reply = await gateway.get("/redoc", scope=None)
        assert (reply.status, reply.header("Location")) == (307, "/docs")


async def test_the_document_describes_itself(tmp_path: Path) -> None:
    """It and the page are operations like any other, and the metrics stand under their configured path."""
    async with control(tmp_path, "metrics: {path: /prometheus}\nendpoints: []\n") as gateway:
        document = (await gateway.get("/openapi.json", scope=None)).json
        assert {"/docs", "/openapi.json", "/prometheus"} <= set(document["paths"])
        assert "/metrics" not in document["paths"]
