"""The gateways under test, each configured to do the same job as a careful user would set it up.

The same job: accept on loopback, strip `/orchestrator/bench`, forward over kept connections, add
X-Forwarded-For, write one JSON line a request to a file. Where a default would hurt a peer for reasons that
are not its speed (nginx's 1 000 requests a connection, Caddy's 32 kept connections a host, HAProxy's
`http-reuse safe`, log rotation with gzip) it is lifted: doubts are settled in the peers' favour.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import asdict, frozen
from exchanges import PREFIX
from process import Launch, plain_environment

HERE = Path(__file__).resolve().parent
OURS = "trio-gateway"
CADDY = "caddy"

NGINX = """\
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
{inside}}}
"""

NGINX_GATEWAY = """\
    log_format json escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method",'
        '"path":"$request_uri","status":$status,"bytes":$body_bytes_sent,"duration":$request_time,'
        '"upstream":"$upstream_addr","upstream_duration":"$upstream_response_time"}}';
    access_log {directory}/access.log json;
    client_body_buffer_size 64k;
    proxy_max_temp_file_size 0;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls_port} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location {prefix}/ {{
            proxy_pass http://backend/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 8192
    log stdout len 4096 format raw local0
defaults
    mode http
    log global
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 3600s
    timeout server 60s
    log-format '{{"time":"%tr","client":"%ci","method":"%HM","path":"%HU",\
"status":%ST,"bytes":%B,"duration_ms":%Ta,"server":"%s"}}'
frontend gateway
    bind 127.0.0.1:{port} backlog 4096
    bind 127.0.0.1:{tls_port} ssl crt {certificate} backlog 4096
    http-request replace-path {prefix}/(.*) /\\1
    default_backend target
backend target
    server target 127.0.0.1:{backend}
"""

CADDYFILE = """\
{{
    auto_https off
    admin off
    skip_install_trust
}}
(gateway) {{
    log {{
        output file {directory}/access.log {{
            roll_disabled
        }}
        format json
    }}
    handle_path {prefix}/* {{
        reverse_proxy 127.0.0.1:{backend} {{
            transport http {{
                keepalive_idle_conns 1024
                keepalive_idle_conns_per_host 1024
            }}
        }}
    }}
}}
http://127.0.0.1:{port} {{
    import gateway
}}
https://127.0.0.1:{tls_port} {{
    tls {certificate} {certificate}
    import gateway
}}
"""

GATEWAY = """\
server:
  bind: [{{address: "127.0.0.1:{port}", tls: false}}, "127.0.0.1:{tls_port}"]
  tls: {{cert: {certificate}, key: {certificate}}}
endpoints:
  - url: http://127.0.0.1:{backend}/
    name: bench
    methods: [GET, POST]
"""


@frozen
class Site:
    """Where a server works: its directory and ports, the backend's port, and a certificate with its key."""

    directory: Path
    port: int
    tls_port: int
    backend: int
    certificate: Path

    def write(self, name: str, template: str) -> str:
        """Fill the template in as a file of the site's directory; returns its path."""
        path = self.directory / name
        path.write_text(self.fill(template))
        return str(path)

    def fill(self, template: str) -> str:
        """The template with what is known of the site."""
        return template.format(**asdict(self), prefix=PREFIX)


def nginx(directory: Path, inside: str) -> list[str]:
    """The command that runs nginx with this `http` block, on files of the directory only."""
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, inside=inside))
    return ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]


def _nginx(site: Site) -> Launch:
    return Launch(nginx(site.directory, site.fill(NGINX_GATEWAY)), site.directory / "access.log")


def _haproxy(site: Site) -> Launch:
    argv = ["haproxy", "-db", "-f", site.write("haproxy.cfg", HAPROXY)]
    return Launch(argv, site.directory / "output.log")


def _caddy(site: Site) -> Launch:
    config = site.write("Caddyfile", CADDYFILE)
    return Launch(
        ["caddy", "run", "--config", config, "--adapter", "caddyfile"],
        site.directory / "access.log",
        plain_environment() | {"HOME": str(site.directory)},
    )


def _forwarder(script: str) -> Callable[[Site], Launch]:
    def launch(site: Site) -> Launch:
        argv = [sys.executable, str(HERE / script), str(site.port), str(site.backend)]
        return Launch(argv, site.directory / "output.log")

    return launch


def _ours(site: Site) -> Launch:
    config = site.write("config.yaml", GATEWAY)
    argv = [sys.executable, "-m", "trio_gateway", "run", "-c", config]
    return Launch(argv, site.directory / "output.log")


@frozen
class Peer:
    """One gateway: how to start it, and what it must find installed (a program, or Python distributions)."""

    launch: Callable[[Site], Launch]
    program: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()

    def version(self) -> str | None:
        """What is installed, or None when something is missing."""
        if self.program:
            return program_version(*self.program)
        try:
            return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.distributions)
        except importlib.metadata.PackageNotFoundError:
            return None


PEERS = {
    CADDY: Peer(_caddy, ("caddy", "version")),
    "nginx": Peer(_nginx, ("nginx", "-v")),
    "haproxy": Peer(_haproxy, ("haproxy", "-v")),
    OURS: Peer(_ours, distributions=("trio-gateway", "trio", "httptools")),
    "aiohttp": Peer(_forwarder("forward_aiohttp.py"), distributions=("aiohttp",)),
    "fastapi": Peer(_forwarder("forward_fastapi.py"), distributions=("fastapi", "uvicorn", "httpx")),
}


def program_version(program: str, argument: str) -> str | None:
    """The first line that a program says about itself, or None when it is not installed."""
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False, timeout=20)
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].strip() if lines else program
