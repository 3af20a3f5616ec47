"""The application around the proxied paths: its index, its errors, the fields of every reply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from tests.admin.control import control
from tests.support.faults import fault, through
from tests.support.second_door import echo
from trio_gateway import __version__
from trio_gateway.admin.app import make_app
from trio_gateway.config.model import GatewayConfig, ServerConfig, TracingConfig
from trio_gateway.server.ingress import Ingress

pytestmark = through("gateway")


def client_of(config: GatewayConfig | None = None) -> Any:
    """A test client of an application of its own."""
    settings = config or GatewayConfig()
    return make_app(lambda: settings, Ingress(echo, lambda: settings)).test_client()


async def test_the_index_names_everything(autojump_clock: MockClock) -> None:
    """`GET /` says who answers and where things are, in the old gateway's shape."""
    reply = await client_of().get("/")
    document = json.loads(await reply.get_data())
    assert reply.content_type == "application/json"
    assert (document["service"], document["version"]) == ("Orchestrator API", __version__)
    assert list(document) == ["service", "version", "description", "endpoints"]
    assert document["endpoints"] == {
        "health": "/health",
        "configuration": "/config",
        "registry": "/registry",
        "routing": "/router",
        "health_monitoring": "/health",
        "orchestrator": "/orchestrator/{path}",
        "docs": "/docs",
    }


async def test_the_index_knows_the_prefix(autojump_clock: MockClock) -> None:
    """Another `server.prefix` shows, and is proxied."""
    client = client_of(GatewayConfig(server=ServerConfig(prefix="/api")))
    index = json.loads(await (await client.get("/")).get_data())
    assert index["endpoints"]["orchestrator"] == "/api/{path}"
    assert await (await client.post("/api/x", data=b"hello")).get_data() == b"hello"
    assert (await client.post("/orchestrator/x", data=b"hello")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "detail", "code"),
    [
        ("GET", "/nothing", 404, "Not Found", "not_found"),
        ("POST", "/", 405, "Method Not Allowed", "method_not_allowed"),
    ],
)
async def test_errors_are_problem_documents(
    method: str, path: str, status: int, detail: str, code: str, autojump_clock: MockClock
) -> None:
    """Old clients read `detail`; new ones have the rest (RFC 9457)."""
    reply = await client_of().open(path, method=method)
    document = json.loads(await reply.get_data())
    assert (reply.status_code, reply.content_type) == (status, "application/problem+json")
    assert (document["detail"], document["code"], document["source"]) == (detail, code, "client")
    assert document["request_id"] == reply.headers["X-Request-ID"]


async def test_405_names_the_methods(autojump_clock: MockClock) -> None:
    """`Allow` is there and lists what the path takes."""
    reply = await client_of().delete("/")
    assert reply.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_every_reply_has_an_id_and_a_date(autojump_clock: MockClock) -> None:
    """The id is the client's where it is acceptable and trusted, under the configured name."""
    inbound = {"X-Request-ID": "mine"}
    assert (await client_of().get("/", headers=inbound)).headers["X-Request-ID"] == "mine"
    distrusting = TracingConfig(trust_inbound_request_id=False, request_id_header="X-Id")
    client = client_of(GatewayConfig(tracing=distrusting))
    reply = await client.get("/", headers={"X-Id": "mine"})
    assert reply.headers["X-Id"] not in ("", "mine")
    assert reply.headers["Date"].endswith("GMT")


@fault("A1")
async def test_a_proxy_s_listener_shows_nothing_of_the_api(tmp_path: Path) -> None:
    """With `admin.bind` the proxied paths are alone on theirs, and even the index is elsewhere."""
    async with control(tmp_path, role="proxy") as gateway:
        for path in ("/", "/health", "/livez", "/config/status", "/metrics", "/docs", "/openapi.json"):
            assert (await gateway.get(path)).status == 404
        assert (await gateway.get("/orchestrator/users")).status == 200


async def test_a_prefix_of_slash_leaves_no_room_beside_it(tmp_path: Path) -> None:
    """Then every path is proxied, those of the API too, which needs a listener of its own."""
    text = "server: {prefix: /}\nadmin: {bind: '127.0.0.1:9000'}\n"
    text += "endpoints: [{url: 'http://127.0.0.1:9001/', name: health}]\n"
    async with control(tmp_path, text, role="proxy") as gateway:
        assert (await gateway.get("/health")).body == b"ok"
        assert (await gateway.get("/livez")).json["code"] == "route_not_found"


async def test_slashes_are_not_merged(tmp_path: Path) -> None:
    """No redirect leads from a path that is not ours to one that is."""
    async with control(tmp_path) as gateway:
        reply = await gateway.get("/registry//stats")
        assert (reply.status, reply.headers.values("Location")) == (404, [])
