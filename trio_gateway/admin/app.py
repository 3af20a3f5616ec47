"""The Quart-Trio application: the pages and the API beside the proxied paths, and the Quart route.

The route `<prefix>/<path>` is registered like any other, so that Quart knows it, but it is served by the
ingress below Quart's views. A view can only be reached by a path that merely decodes to the prefix, and
such a path is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Never

import msgspec
import structlog
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound

from trio_gateway import __version__
from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.headers import request_id
from trio_gateway.errors import GatewayError
from trio_gateway.proxy.problem import MEDIA_TYPE, http_date
from trio_gateway.server.ingress import Ingress

log = structlog.get_logger("trio_gateway.admin")

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_MAX_BODY = 4 * 1024 * 1024  # of a request to the API itself: Quart holds it whole
_DESCRIPTION = "API gateway with authentication passthrough, health checks and circuit breakers"


def make_app(config: Callable[[], GatewayConfig], ingress: Ingress) -> QuartTrio:
    """The application. `config` is asked for each request, but for `server.prefix`, which stands."""
    app = QuartTrio("trio_gateway", static_folder=None)
    app.asgi_http_class = ingress  # type: ignore[assignment]  # it is called like the class
    app.config.update(
        RESPONSE_TIMEOUT=None,  # it would cut long replies
        BODY_TIMEOUT=config().server.timeouts.body_idle,
        MAX_CONTENT_LENGTH=_MAX_BODY,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.url_map.merge_slashes = False  # `//orchestrator/x` is no path of ours: 404, not a redirect
    _add_routes(app, config().server.prefix.rstrip("/"))
    _add_endings(app, config)
    return app


def _add_routes(app: QuartTrio, prefix: str) -> None:
    async def index() -> Response:
        return _json(200, _index(prefix))

    async def below_prefix(path: str) -> Never:  # noqa: ARG001  Quart passes it
        raise NotFound

    app.add_url_rule("/", "index", index, methods=["GET"])
    app.add_url_rule(f"{prefix}/<path:path>", "orchestrator", below_prefix, methods=list(METHODS))


def _index(prefix: str) -> dict[str, object]:
    return {
        "service": "Orchestrator API",
        "version": __version__,
        "description": _DESCRIPTION,
        "endpoints": {
            "health": "/health",
            "configuration": "/config",
            "registry": "/registry",
            "routing": "/router",
            "health_monitoring": "/health",
            "orchestrator": f"{prefix}/{{path}}",
            "docs": "/docs",
        },
    }


def _add_endings(app: QuartTrio, config: Callable[[], GatewayConfig]) -> None:
    """One id for each request, errors as problem documents, and the fields that every reply carries."""

    async def name_request() -> None:
        tracing = config().tracing
        inbound = request.headers.get(tracing.request_id_header, "").encode("latin-1", "replace")
        g.request_id = request_id(inbound, trust=tracing.trust_inbound_request_id).decode()

    async def answer_http(error: HTTPException) -> Response:
        status = error.code or 500
        answer = _problem(status, error.name)
        allowed = getattr(error, "valid_methods", None)
        if status == 405 and allowed:
            answer.headers["Allow"] = ", ".join(sorted(allowed))
        return answer

    async def answer_bug(error: Exception) -> Response:
        log.exception("view failed", request_id=g.request_id, exc_info=error)
        return _problem(500, GatewayError.default_detail)

    async def finish(response: Response) -> Response:
        response.headers[config().tracing.request_id_header] = g.request_id
        response.headers["Date"] = http_date().decode()
        return response

    app.before_request(name_request)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, answer_bug)
    app.after_request(finish)


def _problem(status: int, detail: str) -> Response:
    title = HTTPStatus(status).phrase
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": title.lower().replace(" ", "_"),
        "source": "client" if status < 500 else "gateway",
        "request_id": g.request_id,
    }
    return _json(status, document, MEDIA_TYPE.decode())


def _json(status: int, document: dict[str, object], media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(document), status, content_type=media_type)
