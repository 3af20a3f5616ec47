"""From a request to an operation and back: guard, parameters, view, JSON, audit, always in this order."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from attrs import define, field
from quart import Response, g, request
from werkzeug.exceptions import HTTPException

from trio_gateway.admin.auth import ScopeTooSmall
from trio_gateway.admin.guard import Caller, Guard, audit
from trio_gateway.admin.operation import Answer, Call, Operation
from trio_gateway.admin.parameters import InvalidRequest, read_body, read_parameters
from trio_gateway.admin.plane import Plane
from trio_gateway.errors import GatewayError

QuartView = Callable[..., Awaitable[Response]]


@define(eq=False)
class Management:
    """What a listener shows of the control plane: the operations, and the guard before them."""

    plane: Plane
    guard: Guard
    operations: tuple[Operation, ...]

    def view(self, operation: Operation) -> QuartView:
        """The operation as Quart calls it."""

        async def view(**path: str) -> Response:
            return await _Run(self, operation, path).run()

        return view


@define(eq=False)
class _Run:
    """One call of one operation."""

    management: Management
    operation: Operation
    path: dict[str, str]
    caller: Caller = field(init=False)
    subject: str = field(init=False, default="")

    async def run(self) -> Response:
        self.caller = Caller(
            address=(request.scope.get("client") or ("",))[0],
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
            authorization=request.headers.get("Authorization"),
        )
        try:
            response = await self._answer()
        except Exception as error:
            self._audit(_status_of(error))
            raise
        self._audit(response.status_code)
        return response

    async def _answer(self) -> Response:
        try:
            self.subject = (await self.management.guard.admit(self.caller, self.operation.scope)).subject
        except ScopeTooSmall as error:
            self.subject = error.subject
            raise
        reply = self.operation.view(self.management.plane, await self._call())
        return _response(await reply if inspect.isawaitable(reply) else reply)

    async def _call(self) -> Call:
        operation = self.operation
        parameters, mistakes = read_parameters(operation, self.path, request.args)
        body = await _body() if operation.body is not None else b""
        data, more = read_body(operation.body, body)
        if mistakes or more:
            raise InvalidRequest(mistakes + more)
        raw_path = request.scope.get("raw_path") or request.path.encode()
        return Call(parameters, data, body, self.caller.host.encode("latin-1", "replace"), raw_path)

    def _audit(self, status: int) -> None:
        if self.operation.is_write:
            audit(self.operation, self.caller, self.subject, status, request.path, g.request_id)


def _status_of(error: Exception) -> int:
    if isinstance(error, GatewayError):
        return error.status
    return (error.code or 500) if isinstance(error, HTTPException) else 500


async def _body() -> bytes:
    data = await request.get_data(cache=False)
    return data if isinstance(data, bytes) else data.encode()


def _response(reply: Any) -> Response:
    answer = reply if isinstance(reply, Answer) else Answer(200, reply)
    content = answer.content if isinstance(answer.content, bytes) else encoded(answer.content)
    response = Response(content, answer.status, content_type=answer.media_type)
    response.headers["Cache-Control"] = "no-store"
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


def encoded(reply: object) -> bytes:
    """A reply as JSON."""
    return msgspec.json.encode(reply)
