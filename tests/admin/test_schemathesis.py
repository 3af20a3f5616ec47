"""schemathesis against `/openapi.json`: what the document promises holds for all it allows, and for more.

Cases are made first, sent to one gateway in memory, and judged by schemathesis's own checks: no 5xx, only
statuses, media types, fields and bodies that the document names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.admin.control import CONFIG, Control, Reply, control
from tests.support.client import Answer
from tests.support.faults import fault, through
from trio_gateway.admin.openapi import document
from trio_gateway.admin.operations import shown
from trio_gateway.config.load import parse_config

pytestmark = through("gateway")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BASE = "http://127.0.0.1:8000"
EXAMPLES = 5  # of each operation, of either kind; `make soak` makes many more

ROWS = shown(parse_config(CONFIG, "test.yaml", {}).require(), "shared")
SCHEMA = schemathesis.openapi.from_dict(document(ROWS))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def cases(operation: Any, mode: GenerationMode, count: int) -> list[Any]:
    """Cases that the document allows, or, negative, that it forbids; none where it forbids nothing."""
    made: list[Any] = []

    @seed(2026)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def make(case: Any) -> None:
        made.append(case)

    with suppress(Unsatisfiable):
        make()
    return made


async def send(gateway: Control, case: Any) -> tuple[requests.PreparedRequest, Reply]:
    """The case as schemathesis would send it."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    ours = ("content-length", "authorization")
    fields = [f"{name}: {value}" for name, value in prepared.headers.items() if name.lower() not in ours]
    target = prepared.url.removeprefix(BASE)
    return prepared, await gateway.fetch(prepared.method, target, *fields, body=body)


def judged(case: Any, prepared: requests.PreparedRequest, reply: Reply) -> Iterator[str]:
    """What schemathesis has against a reply."""
    headers = {name.decode().lower(): [value.decode("latin-1")] for name, value in reply.headers.headers}
    response = Response(reply.status, headers, reply.body, prepared, elapsed=0.0, verify=True)
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as failures:
        for failure in failures.exceptions:
            yield f"{prepared.method} {prepared.url} {prepared.body!r} -> {reply.status}: {failure}"


def wrong(folder: Path, count: int) -> list[str]:
    """All that schemathesis has against the gateway."""
    found: list[str] = []

    async def run() -> None:
        async with control(folder) as gateway:
            for operation in OPERATIONS:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    for case in cases(operation, mode, count):
                        found.extend(judged(case, *await send(gateway, case)))
            assert gateway.plane.runtime.metrics.handler_errors == 0

    trio.run(run)
    return found


def test_the_document_is_openapi_3_1() -> None:
    """It is plain JSON, names its version, and lists every operation once."""
    described = json.loads(json.dumps(document(ROWS)))
    assert described["openapi"] == "3.1.0"
    assert len(OPERATIONS) == len(ROWS) == sum(len(methods) for methods in described["paths"].values())
    SCHEMA.validate()


@fault("A1")
def test_what_the_document_promises_holds(tmp_path: Path) -> None:
    """No 5xx and no reply that the document does not name, for good requests and for bad ones."""
    assert wrong(tmp_path, EXAMPLES) == []


@pytest.mark.soak
def test_what_the_document_promises_holds_for_long(tmp_path: Path) -> None:
    """The same, with many more cases."""
    assert wrong(tmp_path, 300) == []


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, "application/json", b'{"status": "well"}'),
        (200, "application/json", b"{}"),
        (200, "text/html", b'{"status": "alive"}'),
        (500, "application/problem+json", b"{}"),
        (418, "application/problem+json", b'{"detail": "no problem document"}'),
    ],
)
def test_a_broken_promise_is_found(status: int, media_type: str, body: bytes) -> None:
    """The checks judge: a wrong value, a lost field, another media type, a failure."""
    (livez,) = (operation for operation in OPERATIONS if operation.label == "GET /livez")
    headers = Answer(status, [(b"content-type", media_type.encode())], body)
    request = requests.Request("GET", f"{BASE}/livez").prepare()
    assert list(judged(livez.Case(), request, Reply(status, headers, body))) != []
