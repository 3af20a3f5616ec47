"""The table: everything that was promised is in it, once, with the scope that was promised."""

from __future__ import annotations

import pytest

from trio_gateway.admin.operation import Operation
from trio_gateway.admin.operations import TABLE, Role, listeners, shown
from trio_gateway.config.check import MANAGEMENT_ROOTS
from trio_gateway.config.load import parse_config
from trio_gateway.config.model import GatewayConfig

PROMISED = """
open    GET    /
open    GET    /health
open    GET    /livez
open    GET    /readyz
open    GET    /docs
open    GET    /redoc
open    GET    /openapi.json
write   POST   /config/reload
read    GET    /config/status
read    GET    /config/endpoints
read    POST   /config/validate
read    GET    /registry/endpoints
read    GET    /registry/endpoints/{endpoint_id}
write   POST   /registry/endpoints
write   DELETE /registry/endpoints/{endpoint_id}
operate PUT    /registry/endpoints/{endpoint_id}/status
read    GET    /registry/stats
write   POST   /registry/sync
read    GET    /router/routes
operate GET    /router/test/{endpoint_id}
operate POST   /router/refresh
read    GET    /router/debug/{path}
read    GET    /health/status
read    GET    /health/summary
read    GET    /health/endpoints
read    GET    /health/endpoints/{endpoint_id}
operate POST   /health/check/{endpoint_id}
read    GET    /health/unhealthy
read    GET    /health/circuit-breakers
read    GET    /health/circuit-breakers/open
operate POST   /circuit-breaker/reset/{endpoint_id}
operate POST   /circuit-breaker/trip/{endpoint_id}
operate POST   /router/reset-circuit-breaker/{endpoint_id}
read    GET    /stats/requests
read    GET    /stats/endpoints
read    GET    /endpoints/stats
read    GET    /metrics
"""

OWN = "admin: {bind: '127.0.0.1:9000'}\nmetrics: {bind: '127.0.0.1:9100', path: /m}\n"


def config_of(text: str) -> GatewayConfig:
    return parse_config(text, "test.yaml", {}).require()


def line(operation: Operation) -> tuple[str, ...]:
    return (operation.scope, operation.method, operation.path)


def test_the_table_is_what_was_promised() -> None:
    """No operation is missing, none is open that must not be, none is there twice."""
    rows = shown(GatewayConfig(), "shared")
    assert sorted(line(row) for row in rows) == sorted(
        tuple(text.split()) for text in PROMISED.split("\n")[1:-1]
    )


def test_every_operation_has_a_name_and_words() -> None:
    """The name is its id in the document and in the audit log; the words are for people."""
    rows = shown(GatewayConfig(), "shared")
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.summary and row.tag for row in rows)
    assert {row.scope for row in TABLE if row.is_write} == {"operate", "write"}


def test_no_proxied_path_can_hide_an_operation() -> None:
    """The roots that the config check guards are those of the table."""
    rows = shown(GatewayConfig(), "shared")
    roots = {row.path.split("/")[1] for row in rows if row.path not in ("/", "/metrics")}
    assert roots == MANAGEMENT_ROOTS


@pytest.mark.parametrize(
    ("text", "role", "paths", "metrics"),
    [
        ("", "shared", 37, ("/metrics", "read")),
        (OWN, "proxy", 0, None),
        (OWN, "admin", 37, ("/m", "open")),
        (OWN, "metrics", 1, ("/m", "open")),
    ],
)
def test_a_listener_shows_what_it_is_for(
    text: str, role: Role, paths: int, metrics: tuple[str, str] | None
) -> None:
    """With `admin.bind` the proxy's listeners show nothing; `/metrics` is open where only operators are."""
    rows = shown(config_of(text), role)
    assert len(rows) == paths
    found = [(row.path, row.scope) for row in rows if row.name == "metrics"]
    assert found == ([] if metrics is None else [metrics])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server: {bind: ['a:1', 'b:2']}", [("a:1", "shared"), ("b:2", "shared")]),
        (
            "server: {bind: ['a:1']}\n" + OWN,
            [("a:1", "proxy"), ("127.0.0.1:9000", "admin"), ("127.0.0.1:9100", "metrics")],
        ),
        ("server: {bind: ['a:1']}\nmetrics: {bind: 'b:1', enabled: no}", [("a:1", "shared")]),
        ("server: {bind: ['a:1']}\nmetrics: {bind: 'b:1'}", [("a:1", "shared"), ("b:1", "metrics")]),
    ],
)
def test_every_listener_has_a_role(text: str, expected: list[tuple[str, Role]]) -> None:
    """From the config alone."""
    assert [(bind.address, role) for bind, role in listeners(config_of(text))] == expected
