"""What the operators' verbs share: their options, and the way to the management API.

A verb is a function of an `Api` and its own arguments. Whatever keeps it from its answer ends the program
with 1 and one line that says what to do: no gateway there, a token refused, an endpoint unknown.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click
from attrs import define, field

from trio_gateway.cli.tables import printable
from trio_gateway.config.addresses import UNIX_PEER, http_url
from trio_gateway.config.binds import bind_address
from trio_gateway.config.tokens import endpoint_name

if TYPE_CHECKING:
    import httpx

    from trio_gateway.admin.tokens import Scope
    from trio_gateway.cli.finding import Place

FAILED = 1

Verb = Callable[..., None]

_CONNECT = 5.0  # seconds
_ANSWER = 75.0  # seconds; a probe takes as long as its endpoint lets it


# ---- the API ----------------------------------------------------------------------------------------


@define
class Api:
    """The management API of one gateway. `as_json` is how its answers are to be told."""

    as_json: bool
    _urls: tuple[str, ...]
    _why_no_token: str
    _open: Callable[[str], httpx.Client] = field(repr=False)

    @property
    def url(self) -> str:
        """Where it is; before the first answer, where it may be."""
        return self._urls[0]

    def call(self, method: str, path: str, *, fine: Sequence[int] = (), **query: str | int) -> dict[str, Any]:
        """The document that answers a request; one with another status than 200 only where it is `fine`.

        Raises ClickException.
        """
        response = self._send(method, path, query)
        try:
            document = response.json()
        except ValueError:
            document = None
        if isinstance(document, dict) and response.status_code in (200, *fine):
            return document
        raise click.ClickException(self._refusal(response.status_code, document))

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """The document that answers a GET."""
        return self.call("GET", path, fine=(), **query)

    def _send(self, method: str, path: str, query: dict[str, Any]) -> httpx.Response:
        import httpx

        reason = ""
        for url in self._urls:
            try:
                with self._open(url) as client:
                    response = client.request(method, path, params=query)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: try the next
                reason = str(error).partition("] ")[2] or str(error)
            except httpx.HTTPError as error:
                raise click.ClickException(f"{url} did not answer: {error}") from None
            else:
                self._urls = (url,)
                return response
        raise click.ClickException(f"no gateway answers at {' or '.join(self._urls)}: {reason}")

    def _refusal(self, status: int, document: object) -> str:
        """Why there is no answer, in one line."""
        detail = document.get("detail") if isinstance(document, dict) else None
        if isinstance(detail, list):
            detail = "; ".join(str(mistake["msg"]) for mistake in detail)
        if not detail or (status == 404 and detail == "Not Found"):
            return f"{self.url} is no management API: it answered {status}"
        if status in (401, 403):
            detail = f"refused: {detail}" + (f" ({self._why_no_token})" if self._why_no_token else "")
        return printable(f"{self.url}: {detail}")

    def tell(self, document: object, text: str) -> None:
        """Print an answer: the document for programs, the text for people."""
        click.echo(json.dumps(document, indent=2) if self.as_json else text)


# ---- options ----------------------------------------------------------------------------------------


def operates(scope: Scope) -> Callable[[Verb], Verb]:
    """Make a function of an `Api` a verb with the options that lead there; its calls need `scope`."""

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def call(
            file: str | None, url: str | None, token: str | None, as_json: bool, **arguments: object
        ) -> None:
            from trio_gateway.cli.finding import find

            place = find(file, url, token, scope)
            _answered(verb, Api(as_json, place.urls, place.why, partial(_client, place)), arguments)

        return _with_options(call)

    return decorate


def _client(place: Place, url: str) -> httpx.Client:
    """A client of the API at `url`, or behind a Unix socket."""
    import httpx

    token = place.token
    path = url.removeprefix(UNIX_PEER)
    through_socket = path != url
    return httpx.Client(
        base_url="http://localhost" if through_socket else url,
        transport=httpx.HTTPTransport(uds=path) if through_socket else None,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
        verify=_trusting(place.certificates),
        headers={"Authorization": f"Bearer {token}"} if token else None,
    )


def _trusting(certificates: tuple[str, ...]) -> ssl.SSLContext:
    """Trust what everybody trusts, or the gateway's own certificates alone: they name its public hosts."""
    if not certificates:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in certificates:
        with suppress(OSError):  # then it trusts one less
            context.load_verify_locations(path)
    return context


def _answered(verb: Verb, api: Api, arguments: dict[str, object]) -> None:
    try:
        verb(api, **arguments)
    except (LookupError, TypeError):
        raise click.ClickException(f"{api.url} is no management API of this version") from None


def _with_options(verb: Verb) -> Verb:
    for option in reversed(
        (
            click.option(
                "-c", "--config", "file", metavar="FILE", help="The config file.  [env: CONFIG_PATH]"
            ),
            click.option(
                "--url",
                callback=_url,
                help="The management API's url or unix:/path, not the noted one.",
            ),
            click.option(
                "--token",
                envvar="TRIO_GATEWAY_TOKEN",
                callback=_token,
                help="A token for it, instead of one of our own.  [env: TRIO_GATEWAY_TOKEN]",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
    ):
        verb = option(verb)
    return verb


def _url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        url = bind_address(value) if value.startswith(UNIX_PEER) else http_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if "?" in url:
        raise click.BadParameter("must not contain a query")
    return url.rstrip("/")


def _token(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    token = None if value is None else value.strip()
    if token is not None and not re.fullmatch(r"[\w.~+/-]+=*", token, re.ASCII):  # RFC 6750 2.1
        raise click.BadParameter("is no bearer token")
    return token


def _endpoint_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return endpoint_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


one_endpoint = click.argument("endpoint_id", metavar="ID", callback=_endpoint_id)
"""The argument of the verbs that are about one endpoint."""
