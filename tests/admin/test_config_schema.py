"""How an endpoint is written in JSON: what the schema allows, the reader takes."""

from __future__ import annotations

from typing import Any

import attrs
import jsonschema_rs
import msgspec
import pytest

from trio_gateway.admin.config_schema import written
from trio_gateway.config.data import read_endpoint
from trio_gateway.config.model import EndpointConfig

_, COMPONENTS = msgspec.json.schema_components(
    [written(EndpointConfig)], ref_template="#/components/schemas/{name}"
)
SCHEMA = {"$ref": "#/components/schemas/EndpointConfig", "components": {"schemas": COMPONENTS}}

GOOD: list[dict[str, Any]] = [
    {"url": "http://h/"},
    {
        "url": "https://h:8443/v1",
        "name": "a-b_1",
        "version": "v1.10",
        "methods": ["GET", "POST"],
        "timeout": 0.5,
    },
    {"url": "http://h/", "timeout": "250ms", "max_body_bytes": "64KiB", "allow": ["10.0.0.0/8", "::1"]},
    {"url": "http://h/", "match": {"prefix": "/a", "headers": {"X-T": "a"}, "priority": -1}},
    {
        "url": "http://h/",
        "circuit_breaker": {"failure_on": ["5xx", "timeout", 429], "failure_rate_threshold": 50},
    },
    {"url": "http://h/", "circuit_breaker": {"fallback_response": {"a": [1, {"b": None}]}}},
    {"url": "http://h/", "name": None, "pool": None, "timeouts": {"total": None}},
]

BAD: list[dict[str, Any]] = [
    {},
    {"url": "ftp://h/"},
    {"url": 7},
    {"url": "http://h/", "name": "b a d"},
    {"url": "http://h/", "version": "beta"},
    {"url": "http://h/", "methods": ["get"]},
    {"url": "http://h/", "timeout": 0},
    {"url": "http://h/", "timeout": "soon"},
    {"url": "http://h/", "match": {"prefix": "a"}},
    {"url": "http://h/", "circuit_breaker": {"failure_threshold": 0}},
    {"url": "http://h/", "circuit_breaker": {"failure_on": ["4xx"]}},
    {"url": "http://h/", "circuit_breaker": {"failure_rate_threshold": 101}},
    {"url": "http://h/", "pool": []},
]


@pytest.mark.parametrize("data", GOOD)
def test_what_the_schema_allows_is_read(data: dict[str, Any]) -> None:
    """Numbers and texts, nulls for defaults, nested blocks."""
    jsonschema_rs.validate(SCHEMA, data)
    assert read_endpoint(data).mistakes == ()


@pytest.mark.parametrize("data", BAD)
def test_what_the_schema_forbids_is_refused(data: dict[str, Any]) -> None:
    """Both say no."""
    assert not jsonschema_rs.is_valid(SCHEMA, data)
    assert read_endpoint(data).mistakes != ()


def test_every_field_of_the_model_is_in_it() -> None:
    """A field that is added to the model is in the document at once, with its block's words."""
    fields = {field.name for field in attrs.fields(EndpointConfig)}
    assert set(COMPONENTS["EndpointConfig"]["properties"]) == fields
    assert COMPONENTS["EndpointConfig"]["required"] == ["url"]
    assert "circuit_breaker" in COMPONENTS["CircuitBreakerConfig"]["description"]
