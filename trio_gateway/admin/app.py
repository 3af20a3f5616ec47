"""The Quart-Trio application: the management API and its pages beside the proxied paths.

Every route is a row of the table of operations, or the Quart route `<prefix>/<path>`. That one is
registered like any other, so that Quart knows it, but it is served by the ingress below Quart's views. A
view can only be reached by a path that merely decodes to the prefix, and such a path is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Never

import msgspec
import structlog
import trio
from quart import Blueprint, Response, g, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound

from trio_gateway.admin.dispatch import Management, encoded
from trio_gateway.admin.pages import index_of
from trio_gateway.config.model import CorsConfig, GatewayConfig
from trio_gateway.domain.cors import Cors, compile_cors
from trio_gateway.domain.headers import request_id
from trio_gateway.domain.trace import context_of
from trio_gateway.errors import GatewayError
from trio_gateway.proxy.problem import MEDIA_TYPE, http_date, problem
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import record_answer
from trio_gateway.server.ingress import Ingress

log = structlog.get_logger("trio_gateway.admin")

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_MANAGED = ("GET", "POST", "PUT", "DELETE")
_CORS_FIELDS = ("Authorization", "Content-Type")
_MAX_BODY = 4 * 1024 * 1024  # of a request to the API itself: Quart holds it whole


def make_app(
    config: Callable[[], GatewayConfig], ingress: Ingress, management: Management | None = None
) -> QuartTrio:
    """The application. `config` is asked for each request, but for the paths in it, which stand.

    Without `management` there is an index and nothing else.
    """
    app = QuartTrio("trio_gateway", static_folder=None)
    app.url_rule_class = _MatchedRule
    app.asgi_http_class = ingress  # type: ignore[assignment]  # it is called like the class
    app.config.update(
        RESPONSE_TIMEOUT=None,  # it would cut long replies
        BODY_TIMEOUT=config().server.timeouts.body_idle,
        MAX_CONTENT_LENGTH=_MAX_BODY,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.url_map.merge_slashes = False  # `//orchestrator/x` is no path of ours: 404, not a redirect
    if ingress.proxies:
        _add_proxied(app, config().server.prefix.rstrip("/"))
    if management is None:
        _add_index(app, config)
    else:
        _add_operations(app, management)
    _add_endings(app, config, management.plane.runtime if management is not None else None)
    return app


# ---- routes ------------------------------------------------------------------------------------------


class _MatchedRule(QuartRule):
    """A rule that matches and never builds a URL: what `url_for` needs is most of a rule's cost."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:  # noqa: ARG002
        return _never_built


def _never_built(rule: _MatchedRule, **_values: object) -> Never:
    raise NotImplementedError(f"{rule.rule} builds no URL")


def _add_proxied(app: QuartTrio, prefix: str) -> None:
    async def below_prefix(path: str) -> Never:  # noqa: ARG001  Quart passes it
        raise NotFound

    app.add_url_rule(f"{prefix}/<path:path>", "orchestrator", below_prefix, methods=list(METHODS))


def _add_index(app: QuartTrio, config: Callable[[], GatewayConfig]) -> None:
    async def index() -> Response:
        return _response(200, encoded(index_of(config().server.prefix)), "application/json")

    app.add_url_rule("/", "index", index, methods=["GET"])


def _add_operations(app: QuartTrio, management: Management) -> None:
    """One blueprint a resource."""
    blueprints: dict[str, Blueprint] = {}
    for operation in management.operations:
        name = operation.tag.replace(" ", "_")
        blueprint = blueprints.setdefault(name, Blueprint(name, __name__))
        rule = operation.path.replace("{path}", "<path:path>").replace("{", "<").replace("}", ">")
        view = management.view(operation)
        blueprint.add_url_rule(rule, operation.name, view, methods=[operation.method])
    for blueprint in blueprints.values():
        app.register_blueprint(blueprint)


# ---- what every request and reply has ----------------------------------------------------------------


def _add_endings(app: QuartTrio, config: Callable[[], GatewayConfig], runtime: Runtime | None) -> None:
    """One id for each request, errors as problem documents, the fields of every reply, and an access line."""

    async def begin() -> Response | None:
        g.started, g.reason, g.cause = trio.current_time(), "completed", None
        tracing = config().tracing
        inbound = request.headers.get(tracing.request_id_header, "").encode("latin-1", "replace")
        g.request_id = request_id(inbound, trust=tracing.trust_inbound_request_id).decode()
        return _preflight(config())

    async def answer_http(error: HTTPException) -> Response:
        answer = _http_problem(error.code or 500, error.name)
        g.reason = _code_of(answer.status_code)
        allowed = getattr(error, "valid_methods", None)
        if error.code == 405 and allowed:
            answer.headers["Allow"] = ", ".join(sorted(allowed))
        return answer

    async def answer_ours(error: GatewayError) -> Response:
        g.reason, g.cause = error.code, error.cause
        reply = problem(error, g.request_id.encode("latin-1"))
        answer = Response(reply.body.take() or b"", reply.status)
        for name, value in reply.headers:
            answer.headers[name.decode("latin-1")] = value.decode("latin-1")
        return answer

    async def answer_bug(error: Exception) -> Response:
        log.exception("view failed", request_id=g.request_id, exc_info=error)
        g.reason = GatewayError.code
        return _http_problem(500, GatewayError.default_detail)

    async def finish(response: Response) -> Response:
        response.headers[config().tracing.request_id_header] = g.request_id
        response.headers["Date"] = http_date().decode()
        _permit_origin(response, config())
        if runtime is not None:
            _record(runtime, response)
        return response

    app.before_request(begin)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(GatewayError, answer_ours)
    app.register_error_handler(Exception, answer_bug)
    app.after_request(finish)


def _record(runtime: Runtime, response: Response) -> None:
    """The access line of a request that the gateway answers by itself."""
    scope: Any = request.scope
    path, query = scope.get("raw_path") or request.path.encode(), scope["query_string"]
    record_answer(
        runtime,
        started=g.started,
        request_id=g.request_id,
        client=(scope.get("client") or ("",))[0],
        request=(request.method, path + b"?" * bool(query) + query, scope["http_version"]),
        reply=(response.status_code, response.content_length or 0),
        reason=g.reason,
        cause=g.cause,
        traceparent=context_of(_raw(request.headers)),
    )


def _code_of(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_")


def _http_problem(status: int, detail: str) -> Response:
    title = HTTPStatus(status).phrase
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": _code_of(status),
        "source": "client" if status < 500 else "gateway",
        "request_id": g.request_id,
    }
    return _response(status, msgspec.json.encode(document), MEDIA_TYPE.decode())


def _response(status: int, data: bytes, media_type: str) -> Response:
    return Response(data, status, content_type=media_type)


# ---- pages of other origins --------------------------------------------------------------------------


def _cors(config: GatewayConfig) -> Cors | None:
    origins = config.admin.cors.origins
    return compile_cors(CorsConfig(origins=origins, headers=_CORS_FIELDS), _MANAGED) if origins else None


def _raw(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _preflight(config: GatewayConfig) -> Response | None:
    """The answer to a browser that asks whether it may ask; None where that is not the question."""
    cors = _cors(config)
    fields = cors.preflight(request.method.encode(), _raw(request.headers)) if cors else None
    if fields is None:
        return None
    answer = Response(b"", 204)
    answer.headers.pop("Content-Type", None)
    for name, value in fields:
        answer.headers.add(name.decode(), value.decode("latin-1"))
    return answer


def _permit_origin(response: Response, config: GatewayConfig) -> None:
    cors = _cors(config)
    if cors is None or response.status_code == 204:
        return
    for name, value in cors.decorate(_raw(request.headers), []):
        response.headers.add(name.decode(), value.decode("latin-1"))
