"""Numbers through the management API."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.admin.control import CONFIG, control


async def test_requests_are_counted(tmp_path: Path) -> None:
    """By status, reason and method, with their bytes, and those without a route apart."""
    async with control(tmp_path) as gateway:
        await gateway.get("/orchestrator/users")
        await gateway.post("/orchestrator/users", body=b"12345")
        await gateway.get("/orchestrator/orders")
        await gateway.get("/orchestrator/nobody")
        stats = (await gateway.get("/stats/requests")).json
        numbers = stats["requests"]
        assert (numbers["total_requests"], numbers["in_flight"], stats["unrouted_requests"]) == (4, 0, 1)
        assert numbers["by_status"] == {"2xx": 2, "4xx": 1, "5xx": 1}
        assert numbers["by_method"] == {"GET": 3, "POST": 1}
        assert numbers["by_reason"] == {"completed": 2, "route_not_found": 1, "connect_failed": 1}
        assert numbers["request_bytes"] == 5
        assert numbers["average_response_time"] > 0


async def test_each_endpoint_is_counted_under_both_paths(tmp_path: Path) -> None:
    """`/endpoints/stats` is what an older document promised."""
    async with control(tmp_path) as gateway:
        await gateway.get("/orchestrator/users")
        for path in ("/stats/endpoints", "/endpoints/stats"):
            listed = (await gateway.get(path)).json
            totals = {each["endpoint_id"]: each["requests"]["total_requests"] for each in listed["endpoints"]}
            assert totals == {"legacy": 0, "orders": 0, "users": 1}
            assert listed["total_count"] == 3


async def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    """Its own parser finds the requests that were made."""
    async with control(tmp_path) as gateway:
        await gateway.get("/orchestrator/users")
        reply = await gateway.get("/metrics", scope="read")
        assert reply.header("Content-Type").startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
        (requests,) = families["trio_gateway_requests"].samples
        assert requests.labels["endpoint"] == "users"
        assert requests.value == 1


async def test_metrics_can_be_off(tmp_path: Path) -> None:
    """Then there is no such path."""
    async with control(tmp_path, CONFIG + "metrics: {enabled: no}\n") as gateway:
        assert (await gateway.get("/metrics")).status == 404


async def test_metrics_are_open_where_only_operators_are(tmp_path: Path) -> None:
    """On a listener of their own, and there alone with nothing else."""
    async with control(tmp_path, role="metrics") as gateway:
        assert (await gateway.get("/metrics", scope=None)).status == 200
        for path in ("/", "/health", "/config/status", "/docs"):
            assert (await gateway.get(path)).status == 404
