"""The config file through the management API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.control import CONFIG, control
from tests.support.faults import fault, through

pytestmark = through("gateway")


async def test_a_reload_applies_the_file(tmp_path: Path) -> None:
    """What the file says now is in force when the answer comes."""
    async with control(tmp_path) as gateway:
        gateway.path.write_text(CONFIG + "  - {url: 'http://127.0.0.1:9001/', name: more}\n")
        reply = (await gateway.post("/config/reload")).json
        assert reply == {
            "success": True,
            "message": "Configuration reloaded successfully",
            "endpoints_count": 4,
            "errors": [],
            "not_applied": [],
        }
        assert (await gateway.get("/orchestrator/more")).status == 200


@fault("S3")
async def test_a_broken_file_changes_nothing_and_says_where(tmp_path: Path) -> None:
    """The answer is 200 with `success` false; the mistake has its line, there and in the status."""
    async with control(tmp_path) as gateway:
        gateway.path.write_text("endpoints:\n  - {url: nonsense}\n")
        reply = (await gateway.post("/config/reload")).json
        assert (reply["success"], reply["endpoints_count"]) == (False, 3)
        assert reply["errors"][0].startswith(f"{gateway.path}:2:11: endpoints[0].url: ")
        status = (await gateway.get("/config/status")).json
        assert status["last_reload_error"] == reply["errors"][0]
        assert (await gateway.get("/orchestrator/users")).status == 200
        gateway.path.write_text(CONFIG)
        await gateway.post("/config/reload")
        assert (await gateway.get("/config/status")).json["last_reload_error"] is None


async def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    """A reload that could not do all of it says so."""
    async with control(tmp_path) as gateway:
        gateway.path.write_text(CONFIG.replace("admin: {", "admin: {bind: '127.0.0.1:9999', "))
        assert (await gateway.post("/config/reload")).json["not_applied"] == ["admin.bind"]


async def test_the_file_s_endpoints_are_listed(tmp_path: Path) -> None:
    """As the file has them, whatever an operator has said since."""
    async with control(tmp_path) as gateway:
        await gateway.fetch("PUT", "/registry/endpoints/users/status?status=disabled")
        listed = (await gateway.get("/config/endpoints")).json
        assert (listed["total_count"], listed["disabled_count"], listed["active_count"]) == (3, 1, 2)
        assert listed["endpoints"][0]["disabled"] is False


# ---- validate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"endpoints: []", None),
        (b"endpoints: null", "body:1:12: endpoints: must be a list (`[]` for none)"),
        (b"{", "body:2:1: not a valid YAML file"),
        (b"\xff", "body: is not UTF-8 text"),
        (b"plugins: [a]", "body:1:1: plugins: not available in this version"),
    ],
)
async def test_a_body_is_checked_and_not_applied(tmp_path: Path, text: bytes, message: str | None) -> None:
    """Always 200: what is asked is whether it is good."""
    async with control(tmp_path) as gateway:
        reply = await gateway.post("/config/validate", body=text)
        assert (reply.status, reply.json["valid"]) == (200, message is None)
        assert (reply.json["error_message"] or "").startswith(message or "")
        assert len(gateway.plane.config.endpoints) == 3


async def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    """Not only the first."""
    async with control(tmp_path) as gateway:
        body = b"endpoints:\n  - {url: nonsense}\n  - {url: http://h, timeout: soon}\n"
        lines = (await gateway.post("/config/validate", body=body)).json["error_message"].splitlines()
        assert [line.split(": ")[1] for line in lines] == ["endpoints[0].url", "endpoints[1].timeout"]


async def test_only_the_config_s_own_folder_is_read(tmp_path: Path) -> None:
    """Not what lies elsewhere, not through a link, not what is no file; nor is it told what is there."""
    folder, outside = tmp_path / "here", tmp_path / "elsewhere.yaml"
    folder.mkdir()
    outside.write_text("endpoints: []\n")
    (folder / "good.yaml").write_text("endpoints: []\n")
    (folder / "link.yaml").symlink_to(outside)
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    (folder / "large.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    async with control(folder) as gateway:

        async def told(path: str) -> str | None:
            reply = await gateway.post(f"/config/validate?config_path={path}")
            assert reply.status == 200
            message: str | None = reply.json["error_message"]
            return message

        assert await told(f"{folder}/good.yaml") is None
        assert await told(f"{folder}/config.yaml") is None
        foreign = "config_path: must lie in the folder of the config file"
        for path in (
            outside,
            f"{folder}/../elsewhere.yaml",
            f"{folder}/link.yaml",
            "/etc/passwd",
            "/nowhere",
        ):
            assert await told(str(path)) == foreign
        assert await told(str(folder)) == "config_path: there is no such file"
        assert await told(f"{folder}/absent.yaml") == "config_path: there is no such file"
        assert "larger" in (await told(f"{folder}/large.yaml") or "")
        assert await told(f"{folder}/loop.yaml") in (foreign, "config_path: is no usable path")
        assert await told("%00") == "config_path: is no usable path"


async def test_a_config_that_is_a_link_can_be_checked(tmp_path: Path) -> None:
    """The file in force may be mounted from elsewhere."""
    real = tmp_path / "mounted"
    real.mkdir()
    folder = tmp_path / "etc"
    folder.mkdir()
    async with control(folder) as gateway:
        (real / "config.yaml").write_text(CONFIG)
        gateway.path.unlink()
        gateway.path.symlink_to(real / "config.yaml")
        reply = await gateway.post(f"/config/validate?config_path={gateway.path}")
        assert reply.json["valid"] is True
