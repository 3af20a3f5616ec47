"""What holds for every test."""

from __future__ import annotations

import structlog.dev

# A test dependency brings rich, and structlog's default format then prints every local of a traceback:
# minutes for one that begins in a gateway.
structlog.dev.rich_traceback.show_locals = False
