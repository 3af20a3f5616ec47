"""Live upstreams: where an url points, and how connections to it come up."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from attrs import define, evolve, field

from trio_gateway.config.model import EndpointConfig, EndpointTimeouts, EndpointTls
from trio_gateway.errors import ConfigError, ConnectFailed, ConnectTimedOut
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.network import MemoryNetwork
from trio_gateway.proxy.upstream import Connector, PoolFactory, Target, client_context


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a.example/", Target(False, "a.example", 80, b"a.example", b"/", None)),
        ("https://a.example/v1", Target(True, "a.example", 443, b"a.example", b"/v1", None)),
        ("http://a.example:8080/v1/", Target(False, "a.example", 8080, b"a.example:8080", b"/v1/", None)),
        ("http://[::1]:9/x?a=b", Target(False, "::1", 9, b"[::1]:9", b"/x", b"a=b")),
        ("http://a.example/?", Target(False, "a.example", 80, b"a.example", b"/", b"")),
    ],
)
def test_a_target_is_what_the_url_says(url: str, target: Target) -> None:
    """Default ports, IPv6 without brackets, and an empty query that is one."""
    assert Target.of(url) == target


@define
class Backend:
    """A TLS server in memory. `names` are what clients presented, `protocols` what was agreed."""

    authority: trustme.CA = field(factory=trustme.CA)
    name: str = "backend.example"
    ask: bool = False
    names: list[object] = field(factory=list)
    protocols: list[str | None] = field(factory=list)

    async def serve(self, network: MemoryNetwork, *, task_status: trio.TaskStatus[None]) -> None:
        """Answer handshakes until cancelled."""
        (listener,) = await network.listen("backend.example", 443)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.authority.issue_cert(self.name).configure_cert(context)
        if self.ask:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        task_status.started()
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    nursery.start_soon(self._shake_hands, context, await listener.accept())
            finally:
                listener.close()

    async def _shake_hands(self, context: ssl.SSLContext, link: Link) -> None:
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(link._sock)), context, server_side=True
        )
        try:
            await stream.do_handshake()
            self.names.append(stream.getpeercert())
            self.protocols.append(stream.selected_alpn_protocol())
            await stream.receive_some()
        except (trio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


def endpoint(**tls: object) -> EndpointConfig:
    return EndpointConfig(
        url="https://backend.example/",
        name="users",
        timeouts=EndpointTimeouts(connect=3.0),
        tls=EndpointTls(**tls),  # type: ignore[arg-type]
    )


def connector(network: MemoryNetwork, config: EndpointConfig) -> Connector:
    target = Target.of(config.url)
    return Connector(config, target, network, client_context(config.tls) if target.tls else None)


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """Its authority's certificate lies in `ca.pem`, a client's in `client.pem`."""
    backend = Backend()
    backend.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    backend.authority.issue_cert("gateway.example").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "client.pem")
    )
    return backend


@pytest.mark.parametrize(
    ("name", "tls", "fails"),
    [
        ("backend.example", {"ca": "ca.pem"}, False),
        ("backend.example", {}, True),  # its authority is not the system's
        ("other.example", {"ca": "ca.pem"}, True),
        ("other.example", {"ca": "ca.pem", "server_name": "other.example"}, False),
        ("other.example", {"verify": False}, False),
    ],
)
async def test_a_tls_target_is_verified_as_configured(
    name: str, tls: dict[str, object], fails: bool, backend: Backend, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """By authority and name, and always with HTTP/1.1."""
    backend.name = name
    network = MemoryNetwork()
    await nursery.start(lambda task_status: backend.serve(network, task_status=task_status))
    if "ca" in tls:
        tls = {**tls, "ca": str(tmp_path / "ca.pem")}
    connect = connector(network, endpoint(**tls))
    if fails:
        with pytest.raises(ConnectFailed):
            await connect()
    else:
        link = await connect()
        assert link.tls
        await trio.testing.wait_all_tasks_blocked()
        assert backend.protocols == ["http/1.1"]
        link.close()


async def test_a_client_certificate_is_shown(backend: Backend, tmp_path: Path, nursery: trio.Nursery) -> None:
    """To a backend that asks."""
    backend.ask = True
    network = MemoryNetwork()
    await nursery.start(lambda task_status: backend.serve(network, task_status=task_status))
    config = endpoint(ca=str(tmp_path / "ca.pem"), cert=str(tmp_path / "client.pem"))
    link = await connector(network, config)()
    await trio.testing.wait_all_tasks_blocked()
    assert "gateway.example" in str(backend.names)
    link.close()


async def test_a_refused_connect_is_the_upstreams_failure(autojump_clock: object) -> None:
    """Nothing was sent, and its cause is for the log."""
    with pytest.raises(ConnectFailed) as error:
        await connector(MemoryNetwork(), evolve(endpoint(), url="http://backend.example/"))()
    assert "refused" in str(error.value.cause)


@pytest.mark.parametrize("stage", ["tcp", "tls"])
async def test_connecting_has_its_own_time(stage: str, autojump_clock: object) -> None:
    """Name, TCP and TLS together; a backend that is silent in the handshake holds nobody longer."""
    network = MemoryNetwork()
    (listener,) = await network.listen("backend.example", 443)
    if stage == "tcp":
        network.hang.add(listener.address)
    with pytest.raises(ConnectTimedOut):
        await connector(network, endpoint())()
    assert trio.current_time() == pytest.approx(3, abs=0.01)
    if stage == "tls":
        link = await listener.accept()
        assert (await link.receive()).startswith(b"\x16\x03")  # its hello, and then the end
        assert await link.receive() == b""
        link.close()


async def test_a_cancelled_connect_closes_what_it_opened(autojump_clock: object) -> None:
    """In the middle of a handshake."""
    network = MemoryNetwork()
    (listener,) = await network.listen("backend.example", 443)
    with trio.move_on_after(1):
        await connector(network, endpoint())()
    link = await listener.accept()
    await link.receive()
    assert await link.receive() == b""
    link.close()


# ---- pools ------------------------------------------------------------------------------------------


def test_equal_tls_settings_are_loaded_once(tmp_path: Path) -> None:
    """They cost 16 ms and most of a megabyte each; files that changed are read anew."""
    pools = PoolFactory(MemoryNetwork())
    first, second = pools.load_tls([endpoint(), evolve(endpoint(), name="other")])
    assert first is second
    (third,) = pools.load_tls([endpoint(verify=False)])
    assert third is not first
    assert pools.load_tls([evolve(endpoint(), url="http://backend.example/")]) == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_tls_file_is_a_config_error(content: str | None, tmp_path: Path) -> None:
    """With the endpoint's id in it."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    config = endpoint(ca=str(path))
    with pytest.raises(ConfigError, match="users: tls"):
        PoolFactory(MemoryNetwork())(config, Target.of(config.url))
