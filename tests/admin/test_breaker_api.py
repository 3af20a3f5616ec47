"""An operator's hand on the circuit breakers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.control import control


@pytest.mark.parametrize("reset", ["/circuit-breaker/reset", "/router/reset-circuit-breaker"])
async def test_trip_cuts_off_until_reset(tmp_path: Path, reset: str) -> None:
    """Both paths that the old documents named."""
    async with control(tmp_path) as gateway:
        assert (await gateway.get("/orchestrator/users")).status == 200
        tripped = (await gateway.post("/circuit-breaker/trip/users")).json
        assert (tripped["success"], tripped["circuit_breaker"]["state"]) == (True, "open")
        assert (await gateway.get("/orchestrator/users")).json["detail"] == "Circuit breaker is open"
        listed = (await gateway.get("/health/circuit-breakers/open")).json
        assert [each["endpoint_id"] for each in listed["open_circuit_breakers"]] == ["users"]
        assert (await gateway.post(f"{reset}/users")).json["circuit_breaker"]["state"] == "closed"
        assert (await gateway.get("/orchestrator/users")).status == 200


@pytest.mark.parametrize(
    "path", ["/circuit-breaker/reset", "/circuit-breaker/trip", "/router/reset-circuit-breaker"]
)
async def test_an_endpoint_that_is_not_there_has_none(tmp_path: Path, path: str) -> None:
    """404, in the registry's words."""
    async with control(tmp_path) as gateway:
        reply = await gateway.post(f"{path}/none")
        assert (reply.status, reply.json["detail"]) == (404, "Endpoint not found: none")


async def test_failures_show(tmp_path: Path) -> None:
    """Their count, their time, and the state that follows."""
    async with control(tmp_path) as gateway:
        for _ in range(5):
            assert (await gateway.get("/orchestrator/orders")).status == 502
        shown = (await gateway.get("/health/circuit-breakers")).json
        assert shown["summary"]["open_breakers"] == 1
        assert shown["summary"]["health_percentage"] == 0.0
        (breaker,) = shown["circuit_breakers"]
        assert (breaker["state"], breaker["failure_count"]) == ("open", 5)
        assert breaker["last_failure_time"] == breaker["state_changed_time"]
        entry = (await gateway.get("/registry/endpoints/orders")).json
        assert (entry["circuit_breaker_state"], entry["consecutive_failures"]) == ("open", 5)
        assert entry["last_failure_time"] == breaker["last_failure_time"]
