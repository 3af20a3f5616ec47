"""The answer to what is no servable request, or comes on a connection too many, and the close behind it."""

from __future__ import annotations

import trio

from trio_gateway.domain.headers import request_id
from trio_gateway.errors import GatewayError
from trio_gateway.proxy.link import Link
from trio_gateway.proxy.problem import own_headers, problem
from trio_gateway.proxy.runtime import Runtime
from trio_gateway.proxy.serve import log_refusal
from trio_gateway.wire.serialise import response_head

_LINGER_BYTES = 256 * 1024
_LINGER_SECONDS = 2.0


def refusal(error: GatewayError, runtime: Runtime, client: str) -> bytes:
    """The whole answer; the access log has its line, so it must be made once."""
    id_ = request_id(None, trust=False)
    reply = problem(error, id_)
    headers = [*reply.headers, *own_headers(runtime.plan.request_id_header, id_)]
    headers += [(b"Content-Length", b"%d" % (reply.length or 0)), (b"Connection", b"close")]
    data = reply.body.take() or b""
    log_refusal(runtime, error, id_, client, "lane")
    return response_head(reply.status, b"", headers) + data


async def linger(link: Link) -> None:
    """End our side so that the last bytes survive: a reset for unread ones would eat them (RFC 9112 9.6).

    Reads what the peer still sends, 256 KiB or two seconds of it. Raises OSError.
    """
    link.shutdown_write()
    left = _LINGER_BYTES
    with trio.move_on_after(_LINGER_SECONDS):
        while left > 0 and (data := await link.receive()):
            left -= len(data)
