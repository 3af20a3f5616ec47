"""`trio-gateway explain`: which endpoint a request would reach, and what would be sent there."""

from __future__ import annotations

import json
import os
import re
from ipaddress import ip_address

import attrs
import click

from trio_gateway.cli.check import BAD_CONFIG, complain
from trio_gateway.cli.explanation import Explanation, Question, explain
from trio_gateway.config.load import load_config
from trio_gateway.config.search import find_config
from trio_gateway.errors import ConfigError

NOT_FORWARDED = 1

_URL = re.compile(
    r"(?:(?P<scheme>https?|wss?)://(?P<authority>[^/?#]+)(?=[/?#]|$)|(?=/))(?P<target>[^#]*)(?:#.*)?",
    re.I | re.S,
)
_HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # RFC 6455 1.3
    "Sec-WebSocket-Version: 13",
)
_LAYERS = {
    "guarded": "the circuit breaker admits it, or its fallback answers",
    "recorded": "good replies are kept for cached_response",
}


@click.command()
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="May be repeated.")
@click.option("-c", "--config", "file", metavar="FILE", help="The config file.  [env: CONFIG_PATH]")
@click.option("--from", "peer", default="127.0.0.1", metavar="ADDRESS", help="The client's address.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    method: str,
    url: str,
    headers: tuple[str, ...],
    file: str | None,
    peer: str,
    as_json: bool,
) -> None:
    """Show what would become of METHOD URL, as a gateway that has just started would see it.

    URL is a path (/orchestrator/users/7?a=1) or a whole url; one that begins with ws: or wss: asks for a
    WebSocket. Nothing is sent. Exits with 0 when the request would be forwarded, with 1 when the gateway
    would answer it by itself.
    """
    asked = question(method, url, headers, peer)
    loaded = load_config(find_config(file, os.environ)[0])
    if loaded.problems:
        complain(loaded)
        context.exit(BAD_CONFIG)
    try:
        found = explain(loaded, asked)
    except ConfigError as error:
        click.echo(str(error), err=True)
        context.exit(BAD_CONFIG)
    click.echo(json.dumps(attrs.asdict(found), indent=2) if as_json else as_text(found))
    context.exit(0 if found.answered is None else NOT_FORWARDED)


def question(method: str, url: str, headers: tuple[str, ...], peer: str) -> Question:
    """The request's head as a client would send it. Raises UsageError for what no client could mean."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise click.BadParameter("give a path that begins with /, or an http or ws url", param_hint="URL")
    scheme, authority, target = (
        (parts["scheme"] or "").lower(),
        parts["authority"] or "localhost",
        parts["target"],
    )
    if not target.startswith("/"):
        target = f"/{target}"
    try:
        address = str(ip_address(peer))
    except ValueError:
        raise click.BadParameter("is no address", param_hint="--from") from None
    lines = [f"{method} {target} HTTP/1.1", *(_field(header) for header in headers)]
    if scheme in ("ws", "wss"):
        lines += _HANDSHAKE
    if not any(line.lower().startswith("host:") for line in lines):
        lines.insert(1, f"Host: {authority}")
    tls = scheme in ("https", "wss") if scheme else None
    return Question("\r\n".join([*lines, "", ""]).encode(), address, tls)


def _field(header: str) -> str:
    name, colon, value = header.partition(":")
    if not colon or not name or "\n" in header or "\r" in header:
        raise click.BadParameter(f"{header!r} is not NAME: VALUE", param_hint="-H")
    return f"{name}: {value.strip()}"


# ---- text -----------------------------------------------------------------------------------------


def as_text(found: Explanation) -> str:
    """The explanation for people, in the order in which things would happen."""
    lines = [f"request   {found.method} {found.target}", f"          host {found.host}, from {found.client}"]
    return "\n".join(
        [*lines, *_route_lines(found), *_gate_lines(found), *_sent_lines(found), *_end_lines(found)]
    )


def _route_lines(found: Explanation) -> list[str]:
    route = found.route
    if route is None:
        return [f"          {hint}" for hint in found.hints]
    return [
        f"endpoint  {route.endpoint}: {route.why}",
        f"          route {route.pattern}, consumed {route.consumed}, rest {route.rest or '(nothing)'}",
        *(f"          passed over {other}" for other in route.passed_over),
    ]


def _gate_lines(found: Explanation) -> list[str]:
    shown = [f"{verdict.gate} {verdict.says}" for verdict in found.gates]
    return [f"{'gates' if not at else '':<9} {line}" for at, line in enumerate(shown)]


def _sent_lines(found: Explanation) -> list[str]:
    layers = [f"{name}: {_LAYERS[name]}" if name in _LAYERS else name for name in found.layers]
    lines = [f"{'layers' if not at else '':<9} {line}" for at, line in enumerate(layers)]
    if found.sent is None:
        return lines
    return [
        *lines,
        f"sends     {found.sent.method} {found.sent.url}",
        f"          to {found.sent.connect_to}",
        *(f"          {name}: {value}" for name, value in found.sent.headers),
    ]


def _end_lines(found: Explanation) -> list[str]:
    answered = found.answered
    if answered is None:
        return []
    if answered.status is None:
        return [f"leaves    {answered.detail}"]
    return [f"answers   {answered.status} {answered.code}: {answered.detail}"]
