"""How many connections the open files of this process allow."""

from __future__ import annotations

import contextlib
import resource


def raise_descriptor_limit() -> int:
    """Raise the soft limit on open files to the hard one; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def connection_cap(configured: int, descriptors: int) -> int:
    """`limits.connections`, cut to what the descriptors allow: each may need one upstream."""
    return max(1, min(configured, (descriptors - 64) // 2))
