"""Health through the management API: shapes are golden.json's; here is what it says when."""

from __future__ import annotations

from pathlib import Path

from tests.admin.control import control


async def test_a_gateway_that_drains_is_not_ready(tmp_path: Path) -> None:
    """`/readyz` and `/health` turn 503; `/livez` stays, for it is alive."""
    draining = [False]
    async with control(tmp_path, draining=draining) as gateway:
        assert [(await gateway.get(path)).status for path in ("/readyz", "/health", "/livez")] == [200] * 3
        draining.append(True)
        ready, health, alive = [await gateway.get(path) for path in ("/readyz", "/health", "/livez")]
        assert (ready.status, ready.json) == (503, {"status": "draining"})
        assert (health.status, health.json["status"]) == (503, "unhealthy")
        assert set(health.json) == {"status", "error", "timestamp"}
        assert (alive.status, alive.json) == (200, {"status": "alive"})


async def test_the_gateway_is_ready_whatever_its_backends_are(tmp_path: Path) -> None:
    """A backend's fault is no reason to take the gateway away."""
    async with control(tmp_path) as gateway:
        for _ in range(3):
            await gateway.post("/health/check/orders")
        assert (await gateway.get("/readyz")).status == 200
        assert (await gateway.get("/health")).json["registry"]["unhealthy_endpoints"] == 1


async def test_the_system_is_as_well_as_its_worst_half(tmp_path: Path) -> None:
    """Healthy from 90 percent, degraded from 70, of endpoints and of breakers."""
    async with control(tmp_path) as gateway:

        async def word() -> str:
            return str((await gateway.get("/health/status")).json["system_status"])

        assert await word() == "healthy"
        await gateway.post("/circuit-breaker/trip/users")
        assert await word() == "unhealthy"
        for endpoint in ("orders", "legacy", "users"):
            await gateway.post(f"/circuit-breaker/reset/{endpoint}")
        assert await word() == "healthy"
        await gateway.post("/circuit-breaker/trip/legacy")
        assert await word() == "unhealthy"
        for number in range(2):
            data = {"url": f"http://127.0.0.1:91{number:02}/", "name": f"n{number}"}
            await gateway.post("/registry/endpoints", body={"config": data})
            await gateway.post(f"/circuit-breaker/reset/n{number}")
        assert await word() == "degraded"


async def test_a_check_counts_and_a_verdict_stops_traffic(tmp_path: Path) -> None:
    """At the threshold, and not before."""
    async with control(tmp_path) as gateway:
        for expected in ("active", "active", "unhealthy"):
            result = (await gateway.post("/health/check/orders")).json["result"]
            assert (result["status"], result["error_message"]) == (expected, "connection error: refused")
        assert (await gateway.get("/orchestrator/orders")).json["detail"] == "Endpoint is unhealthy"
        assert (await gateway.get("/health/unhealthy")).json["count"] == 1


async def test_the_breaker_is_there_when_it_was_used(tmp_path: Path) -> None:
    """Not a null: old clients look for the key."""
    async with control(tmp_path) as gateway:
        assert "circuit_breaker" not in (await gateway.get("/health/endpoints/users")).json
        await gateway.get("/orchestrator/users")
        shown = (await gateway.get("/health/endpoints/users")).json["circuit_breaker"]
        assert (shown["state"], shown["failure_count"]) == ("closed", 0)
        assert shown["last_success_time"] is not None
