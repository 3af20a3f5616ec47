"""trio_gateway: an HTTP and WebSocket API gateway on Trio."""

from __future__ import annotations

__version__ = "0.1.0"
